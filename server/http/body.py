"""Check the type of request bodies, and decode JSON ones."""

from typing import Any

from litestar import Request
from litestar.enums import RequestEncodingType
from litestar.exceptions import HTTPException, SerializationException
from litestar.params import BodyKwarg

from server.errors import RequestError

JSON = RequestEncodingType.JSON.value


class BodyRequest(Request[Any, Any, Any]):
    """Litestar's request, with errors of the body as `RequestError`."""

    async def json(self) -> Any:
        """Return the decoded body, None for an empty one. Raises `RequestError`."""
        try:
            return await super().json()
        except (SerializationException, UnicodeDecodeError) as error:
            raise RequestError(f"The body is not JSON: {_reason(error)}.", None, "invalid_json") from None


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8, {error.reason}"
    return str(error).removeprefix("JSON is malformed: ").removesuffix(".")


async def refuse_foreign_body(request: Request[Any, Any, Any]) -> None:
    """Refuse a body that the route cannot read, and a missing body where it needs one.

    A route that declares no body reads it itself, if at all. A JSON body must have a JSON media type, because a web
    page can send bodies of other types to any origin without a CORS preflight.
    """
    field = request.route_handler.parsed_data_field
    if field is None:
        return
    headers = request.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        if not (field.is_optional or field.has_default):
            raise RequestError("The body is missing.", None, "missing_required_parameter")
        return
    if headers.get("content-encoding", "identity") != "identity":
        raise HTTPException("The body must not be compressed; send it without Content-Encoding.", status_code=415)
    expected = (
        RequestEncodingType(field.kwarg_definition.media_type).value
        if isinstance(field.kwarg_definition, BodyKwarg)
        else JSON
    )
    actual = request.content_type[0].lower()
    if actual != expected and not (expected == JSON and actual.startswith("application/") and actual.endswith("+json")):
        raise HTTPException(f"The header Content-Type must be {expected}, not {actual or 'missing'}.", status_code=415)
