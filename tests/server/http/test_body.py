"""Bodies that a route accepts or refuses, by their content type and their bytes."""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from litestar import Litestar, Request, post
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body, JSONBody
from litestar.testing import TestClient

from server.http.body import BodyRequest, refuse_foreign_body
from server.http.problems import HANDLERS


class Point(msgspec.Struct):
    x: int
    note: str | None = None
    more: dict[str, Any] = {}


@post("/point", status_code=200)
async def point(data: JSONBody[Point]) -> int:
    return data.x


@post("/perhaps", status_code=200)
async def perhaps(data: JSONBody[Point | None] = None) -> int:
    return data.x if data else 0


@post("/file", status_code=200)
async def file(data: Annotated[UploadFile, Body(media_type=RequestEncodingType.MULTI_PART)]) -> int:
    return len(await data.read())


@post("/own", status_code=200)
async def own(request: Request[Any, Any, Any]) -> int:
    return len(await request.body())


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient[Litestar]]:
    app = Litestar(
        [point, perhaps, file, own],
        exception_handlers=HANDLERS,
        request_class=BodyRequest,
        before_request=refuse_foreign_body,
        openapi_config=None,
        logging_config=None,
    )
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"],
)
def test_a_json_body_is_decoded_by_its_content_type(client: TestClient[Litestar], content_type: str) -> None:
    assert client.post("/point", content=b'{"x": 3}', headers={"Content-Type": content_type}).json() == 3


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", "image/+json"],
)
@pytest.mark.parametrize("path", ["/point", "/perhaps"])
def test_content_types_that_a_page_may_send_without_a_preflight_are_refused(
    client: TestClient[Litestar], path: str, content_type: str
) -> None:
    reply = client.post(path, content=b'{"x": 3}', headers={"Content-Type": content_type})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (415, "unsupported_media_type")
    assert "must be application/json, not " + content_type.partition(";")[0] in error["message"]


def test_a_body_without_content_type_or_compressed_is_refused(client: TestClient[Litestar]) -> None:
    assert client.post("/point", content=b'{"x": 3}').status_code == 415
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert client.post("/point", content=b'{"x": 3}', headers=headers).status_code == 415


def test_a_missing_body_is_an_error_where_one_is_required(client: TestClient[Litestar]) -> None:
    reply = client.post("/point", headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "missing_required_parameter")
    assert client.post("/perhaps").json() == 0


def test_uploads_and_raw_routes_accept_their_own_content_types(client: TestClient[Litestar]) -> None:
    assert client.post("/file", files={"data": b"four"}).json() == 4
    assert client.post("/file", json={}).status_code == 415
    assert client.post("/own", content=b"four", headers={"Content-Type": "text/plain"}).json() == 4


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "truncated"),
        (b'{"x": NaN}', "byte 6"),
        (b'{"x": 1, "note": "\xff"}', "UTF-8"),
        (b"\xff\xfe{\x00}\x00", "byte 0"),
        (b'{"x": 1, "note": "\\ud800"}', "truncated"),
        (b'{"x": 1, "note": "\\udc00\\ud800"}', "surrogate"),
        (b'{"x": 1, "more": {"y": 1e999}}', "out of range"),
        (b'{"x": 1, "more": {"y": ' + b"9" * 5000 + b"}}", "out of range"),
        (b'{"x": 1} {', "trailing"),
        (b'{"x": 1, "more": ' + b'{"a":' * 1000 + b"1" + b"}" * 1001, "nested too deeply"),
        (b"[" * 1_000_000, "nested too deeply"),
    ],
)
def test_the_error_for_invalid_json_says_where_it_is_invalid(
    client: TestClient[Litestar], body: bytes, message: str
) -> None:
    reply = client.post("/point", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400, reply.text
    assert message in reply.json()["error"]["message"]
