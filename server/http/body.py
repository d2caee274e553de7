"""The bodies of requests: of the type their route takes, and JSON where it takes JSON."""

from typing import Any

from litestar import Request
from litestar.enums import RequestEncodingType
from litestar.exceptions import HTTPException, SerializationException
from litestar.params import BodyKwarg

from server.errors import RequestError

JSON = RequestEncodingType.JSON.value


class BodyRequest(Request[Any, Any, Any]):
    async def json(self) -> Any:
        """The body decoded, null for an empty one. Raises `RequestError`."""
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

    A route that declares no body reads it itself, if at all. Only a body of JSON's own type is taken for JSON: a page
    in a browser may send others to any address, without asking.
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
        raise HTTPException("The body must not be compressed.", status_code=415)
    wanted = (
        RequestEncodingType(field.kwarg_definition.media_type).value
        if isinstance(field.kwarg_definition, BodyKwarg)
        else JSON
    )
    given = request.content_type[0].lower()
    if given != wanted and not (wanted == JSON and given.startswith("application/") and given.endswith("+json")):
        raise HTTPException(f"The header Content-Type must be {wanted}, not {given or 'missing'}.", status_code=415)
