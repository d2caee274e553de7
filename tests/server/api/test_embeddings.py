"""POST /v1/embeddings over HTTP, with a fake encoder."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient

from server.api.embeddings.wire import MAX_TEXTS
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeEncoder, FakeIndex, serving, vector_of

LONG = "one two three four five six seven eight nine"  # of which six are read at once


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient[Any]]:
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([])) as client:
        yield client


def encoder(client: TestClient[Any]) -> FakeEncoder:
    fake: FakeEncoder = client.app.state.services.fake_encoder
    return fake


def embed(client: TestClient[Any], input: Any, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = client.post("/v1/embeddings", json={"input": input, **fields}).raise_for_status().json()
    return body


def refusal(client: TestClient[Any], **body: Any) -> tuple[int, str | None, str | None, str]:
    response = client.post("/v1/embeddings", json=body)
    error = response.json()["error"]
    return response.status_code, error["param"], error["code"], error["message"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
def test_vectors_come_in_the_order_of_the_texts(client: TestClient[Any], path: str) -> None:
    body = client.post(path, json={"input": ["red fox", "blue"], "model": "fake-embedder"}).raise_for_status().json()
    assert [(card["object"], card["index"]) for card in body["data"]] == [("embedding", 0), ("embedding", 1)]
    assert np.array_equal(np.float32(body["data"][0]["embedding"]), vector_of(["red", "fox"]))
    assert np.array_equal(np.float32(body["data"][1]["embedding"]), vector_of(["blue"]))
    assert (body["object"], body["model"]) == ("list", "fake-embedder")
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


def test_base64_is_the_same_numbers(client: TestClient[Any]) -> None:
    floats, coded = embed(client, "red fox"), embed(client, "red fox", encoding_format="base64")
    decoded = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4")
    assert np.array_equal(decoded, np.float32(floats["data"][0]["embedding"]))


@pytest.mark.parametrize(
    ("input", "texts"),
    [
        ("red", ["red"]),
        (["red", "blue"], ["red", "blue"]),
        ([9906, 1917], ["Hello world"]),
        ([[9906], [57668, 53901]], ["Hello", "你好"]),
        (["red", [9906]], ["red", "Hello"]),
    ],
)
def test_a_text_may_be_sent_as_tokens(client: TestClient[Any], input: Any, texts: list[str]) -> None:
    assert len(embed(client, input)["data"]) == len(texts)
    assert [text for batch, _, _ in encoder(client).embedded for text in batch] == texts


def test_a_long_text_is_the_mean_of_its_parts_by_their_tokens(client: TestClient[Any]) -> None:
    body = embed(client, [LONG, "red"])
    words = LONG.split()
    expected = 8 * vector_of(words[:6]) + 5 * vector_of(words[6:])
    assert np.allclose(body["data"][0]["embedding"], expected / np.linalg.norm(expected), atol=1e-6)
    assert np.array_equal(np.float32(body["data"][1]["embedding"]), vector_of(["red"]))
    assert body["usage"]["prompt_tokens"] == 8 + 5 + 3


def test_a_very_long_text_is_given_to_the_encoder_in_pieces(client: TestClient[Any]) -> None:
    embed(client, "word " * 1000)
    pieces = [text for batch, _, _ in encoder(client).embedded for text in batch]
    assert "".join(pieces) == "word " * 1000
    assert max(map(len, pieces)) <= 16 * FakeEncoder.ready.max_tokens
    assert max(len(batch) for batch, _, _ in encoder(client).embedded) <= 16


@pytest.mark.parametrize(("count", "is_low_priority"), [(1, False), (4, False), (5, True), (MAX_TEXTS, True)])
def test_many_texts_are_embedded_at_low_priority(client: TestClient[Any], count: int, is_low_priority: bool) -> None:
    assert len(embed(client, [f"text {i}" for i in range(count)])["data"]) == count
    assert {bulk for _, _, bulk in encoder(client).embedded} == {is_low_priority}


def test_a_long_text_is_embedded_at_low_priority(client: TestClient[Any]) -> None:
    embed(client, "word " * 40)
    assert {bulk for _, _, bulk in encoder(client).embedded} == {True}


@pytest.mark.parametrize(
    ("input_type", "kind"),
    [(None, "document"), ("", "document"), ("query", "query"), ("search_query", "query"), ("PASSAGE", "document")],
)
def test_input_type_selects_the_prefix_of_the_model(client: TestClient[Any], input_type: str | None, kind: str) -> None:
    embed(client, "red", input_type=input_type)
    assert encoder(client).embedded == [(["red"], kind, False)]


def test_unknown_fields_and_nulls_are_ignored(client: TestClient[Any]) -> None:
    absent = {"model": None, "encoding_format": None, "dimensions": None, "truncate": None, "user": None}
    assert embed(client, "red", **absent) == embed(client, "red", user="me", model="", more={"deep": [1]})


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "input", "missing_required_parameter"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["red", ""]}, "input[1]", "invalid_value"),
        ({"input": [[]]}, "input[0]", "invalid_value"),
        ({"input": ["red", 7]}, "input[1]", "invalid_value"),
        ({"input": [9906, "red"]}, "input[0]", "invalid_value"),
        ({"input": [100_300]}, "input", "invalid_value"),
        ({"input": [[9906], [100_300]]}, "input[1]", "invalid_value"),
        ({"input": {"text": "red"}}, "input", "invalid_value"),
        ({"input": [["red"]]}, "input[0][0]", "invalid_value"),
        ({"input": ["red"] * (MAX_TEXTS + 1)}, "input", "invalid_value"),
        ({"input": "red", "encoding_format": "ubinary"}, "encoding_format", "invalid_value"),
        ({"input": "red", "dimensions": 0}, "dimensions", "invalid_value"),
        ({"input": "red", "dimensions": 8}, "dimensions", "unsupported_value"),
        ({"input": "red", "input_type": "image"}, "input_type", "invalid_value"),
        ({"input": ["red", LONG], "truncate": False}, "input[1]", "context_length_exceeded"),
        ({"input": LONG, "truncate": "NONE"}, "input", "context_length_exceeded"),
    ],
)
def test_invalid_requests_are_refused_with_the_field_path(
    client: TestClient[Any], body: dict[str, Any], param: str, code: str
) -> None:
    assert refusal(client, **body)[:3] == (400, param, code)


def test_unknown_tokens_are_refused_with_a_hint_for_langchain(client: TestClient[Any]) -> None:
    assert "check_embedding_ctx_length=False" in refusal(client, input=[[100_300]])[3]


def test_an_unknown_model_error_lists_the_known_one(client: TestClient[Any]) -> None:
    status, param, code, message = refusal(client, input="red", model="ada")
    assert (status, param, code) == (404, "model", "model_not_found")
    assert "fake-embedder" in message


def test_dimensions_are_cut_where_the_model_allows_it(client: TestClient[Any]) -> None:
    client.app.state.services.embeddings.min_dimension = 4
    vector = np.array(embed(client, "red fox", dimensions=4)["data"][0]["embedding"])
    whole = vector_of(["red", "fox"])
    assert np.allclose(vector, whole[:4] / np.linalg.norm(whole[:4]), atol=1e-6)
    assert len(embed(client, "red", dimensions=16)["data"][0]["embedding"]) == 16
    assert refusal(client, input="red", dimensions=3)[:3] == (400, "dimensions", "unsupported_value")
    assert refusal(client, input="red", dimensions=17)[:3] == (400, "dimensions", "unsupported_value")


@pytest.mark.parametrize(
    ("path", "field"), [("/embedding", "content"), ("/embeddings", "content"), ("/embedding", "input")]
)
def test_llama_cpps_request_gets_llama_cpps_reply(client: TestClient[Any], path: str, field: str) -> None:
    body = client.post(path, json={field: ["red", "blue"]}).raise_for_status().json()
    assert [(each["index"], len(each["embedding"])) for each in body] == [(0, 1), (1, 1)]
    assert np.array_equal(np.float32(body[1]["embedding"][0]), vector_of(["blue"]))
    assert client.post(path, json={field: ["red", ""]}).json()["error"]["param"] == f"{field}[1]"
