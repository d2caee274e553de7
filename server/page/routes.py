"""The routes of the web page. For Ollama's clients, GET / returns the text that they look for."""

from typing import Any

from litestar import Controller, MediaType, Request, Response, get
from litestar.params import FromPath

from server.errors import NotFound
from server.page.files import START, WebFile, web_files

_OLLAMA_IS_RUNNING = "Ollama is running"


class PageController(Controller):
    @get("/", include_in_schema=False, operation_id="showPage")
    async def root(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        if "text/html" in request.headers.get("accept", ""):
            response = _reply(request, web_files()[START])
        else:
            response = Response(_OLLAMA_IS_RUNNING.encode(), media_type=MediaType.TEXT)
        response.headers["Vary"] = "Accept"
        return response

    @get("/web/{name:path}", include_in_schema=False, operation_id="showWebFile")
    async def file(self, request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        web_file = web_files().get(str(name).lstrip("/"))
        if web_file is None:
            raise NotFound("The web page has no such file.")
        return _reply(request, web_file)


def _reply(request: Request[Any, Any, Any], file: WebFile) -> Response[bytes]:
    if file.matches(", ".join(request.headers.getall("if-none-match", []))):
        return Response(b"", status_code=304, headers=file.headers)
    return Response(file.content, headers=file.headers)
