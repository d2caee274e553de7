"""Questions to a real server about a folder, and answers that cite their sources."""

import json
import re
import time
from typing import Any

import openai
import pytest
from real_server import HANDBOOK, Server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PARENTAL = "How long is parental leave?"
SENTENCE = "Parental leave is sixteen weeks with full pay."


def openai_client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True)


def test_an_answer_quotes_its_source_and_cites_it(server: Server) -> None:
    reply = server.ask(PARENTAL).json()
    message = reply["choices"][0]["message"]
    assert message["content"] == f"{SENTENCE} [1]"
    (annotation,) = message["annotations"]
    citation = annotation["url_citation"]
    assert message["content"][citation["start_index"] : citation["end_index"]] == "[1]"
    assert (citation["path"], citation["collection"], citation["lines"]) == ("leave.md", "handbook", [5, 5])
    assert citation["title"] == "handbook/leave.md › Leave › Parental leave"
    assert citation["quote"] == SENTENCE
    assert SENTENCE in citation["content"]
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]


def test_the_citation_links_to_the_passage(server: Server) -> None:
    citation = server.ask(PARENTAL).json()["choices"][0]["message"]["annotations"][0]["url_citation"]
    url, _, anchor = citation["url"].partition("#")
    assert url.startswith(server.url)
    with server.client() as http:
        page = http.get(url)
    assert f'<section id="{anchor}" class="cited">' in page.text
    assert SENTENCE in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("model", ["cloister", "cloister/handbook"])
def test_the_openai_client_streams_an_answer_and_reads_its_annotations(server: Server, model: str) -> None:
    text, annotations, finish_reasons, usage = "", [], [], None
    with openai_client(server) as client:
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": PARENTAL}],
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                annotations += getattr(choice.delta, "annotations", None) or []
                finish_reasons += [choice.finish_reason] if choice.finish_reason else []
    assert text == f"{SENTENCE} [1]"
    assert [a["url_citation"]["path"] for a in annotations] == ["leave.md"]
    assert finish_reasons == ["stop"]
    assert usage is not None
    assert usage.completion_tokens > 5


def test_the_openai_client_reads_typed_annotations_from_a_whole_answer(server: Server) -> None:
    with openai_client(server) as client:
        completion = client.chat.completions.create(model="cloister", messages=[{"role": "user", "content": PARENTAL}])
    annotations = completion.choices[0].message.annotations
    assert annotations is not None
    assert annotations[0].url_citation.title.startswith("handbook/leave.md")


def test_the_openai_clients_stream_helper_accepts_the_frames(server: Server) -> None:
    with (
        openai_client(server) as client,
        client.chat.completions.stream(model="cloister", messages=[{"role": "user", "content": PARENTAL}]) as stream,
    ):
        final = stream.get_final_completion()
    assert final.choices[0].message.content == f"{SENTENCE} [1]"


def test_the_openai_client_sends_rag_options_and_reads_the_rag_report(server: Server) -> None:
    with openai_client(server) as client:
        alone = client.chat.completions.create(
            model="cloister",
            messages=[{"role": "user", "content": PARENTAL}],
            extra_headers={"X-Cloister-Mode": "never"},
        )
        grounded = client.chat.completions.create(
            model="cloister",
            messages=[{"role": "user", "content": PARENTAL}],
            extra_body={"rag": {"mode": "auto", "filters": {"paths": ["leave.md"]}, "citations": "both"}},
            extra_headers={"X-Cloister-Mode": "never", "X-Cloister-Top-K": "1"},
        )
    assert "rag" not in alone.to_dict()
    content = grounded.choices[0].message.content or ""
    assert content.startswith(
        f"{SENTENCE} [1]\n\nSources:\n[1] [handbook/leave.md › Leave › Parental leave]({server.url}"
    )
    rag: Any = grounded.to_dict()["rag"]
    assert [(p["number"], p["path"], p["is_new"]) for p in rag["passages"]] == [(1, "leave.md", True)]
    assert rag["queries"] == [PARENTAL]


@pytest.mark.parametrize("style", ["annotations", "both"])
def test_the_stream_helper_takes_every_style_with_calls_and_a_schema(server: Server, style: str) -> None:
    """Fields beyond OpenAI's contract must not disturb OpenAI's client."""
    unit = {"type": "object", "properties": {"unit": {"enum": ["C", "F"]}}, "required": ["unit"]}
    weather = {
        "type": "function",
        "function": {"name": "weather", "parameters": {**unit, "additionalProperties": False}},
    }
    call = {"tools": [weather], "tool_choice": "required", "parallel_tool_calls": False}
    form = {"type": "json_schema", "json_schema": {"name": "leave", "schema": SCHEMA, "strict": True}}
    for fields in ({}, {"n": 2, "seed": 1}, call, {"response_format": form}):
        request_fields: Any = {"model": "cloister", "messages": [{"role": "user", "content": PARENTAL}], **fields}
        with (
            openai_client(server) as client,
            client.chat.completions.stream(**request_fields, extra_body={"rag": {"citations": style}}) as stream,
        ):
            final = stream.get_final_completion()
        for choice in final.choices:
            assert ("Sources:" in (choice.message.content or "")) == (
                style == "both" and fields.keys() <= {"n", "seed"}
            )


def test_models_lists_the_grounded_ids_first(server: Server) -> None:
    with openai_client(server) as client:
        ids = [model.id for model in client.models.list()]
        assert ids == ["cloister", "cloister/handbook", "reader-v1", "all-MiniLM-L6-v2"]
        assert client.models.retrieve("cloister/handbook").id == "cloister/handbook"


def test_the_id_of_a_chat_model_alone_is_not_grounded(server: Server) -> None:
    reply = server.ask(PARENTAL, model="reader-v1").json()
    assert "annotations" not in reply["choices"][0]["message"]
    assert SENTENCE not in reply["choices"][0]["message"]["content"]


def test_search_finds_passages_with_their_place(server: Server) -> None:
    with server.client() as http:
        results = http.post("/v1/search", json={"query": "where is the spare key?", "top_k": 2}).json()["data"]
    assert (results[0]["path"], results[0]["lines"]) == ("office/keys.txt", [1, 1])
    assert len(results) == 2


def explain_search(server: Server, query: str, expect: Any, **fields: Any) -> dict[str, Any]:
    body = {"query": query, "explain": True, "expect": expect, "top_k": 2, **fields}
    with server.client() as http:
        response = http.post("/v1/search", json=body)
    assert response.status_code == 200, response.text
    (explanation,) = response.json()["explanation"]["expected"]
    assert isinstance(explanation, dict)
    return explanation


def test_search_explains_why_a_file_is_missing(server: Server) -> None:
    explanation = explain_search(
        server, "where is the spare key?", {"collection": "handbook", "path": "office/keys.txt"}
    )
    assert (explanation["outcome"], explanation["rank"], explanation["dense_rank"]) == ("found", 1, 1)
    assert explanation["passage"]["relevance"] > 6.5
    refusal = explain_search(server, "Who painted the Sistine Chapel?", "leave.md", filters={"paths": ["leave.md"]})
    assert refusal["outcome"] == "below_floor"
    assert explain_search(server, "where is the spare key?", "travel.md", top_k=1)["outcome"] == "outranked"
    assert explain_search(server, "key", "office/keys.txt", filters={"kinds": ["md"]})["outcome"] == "filtered"
    assert explain_search(server, "key", "office/lock.txt")["outcome"] == "not_indexed"


def test_a_search_is_explained_only_on_request(server: Server) -> None:
    with server.client() as http:
        plain = http.post("/v1/search", json={"query": "spare key", "expect": "leave.md"}).json()
        bare = http.post("/v1/search", json={"query": "spare key", "explain": True}).json()
    assert plain["explanation"] is None
    assert bare["explanation"] == {"floor": 6.5, "expected": []}


def test_a_search_is_limited_by_filters(server: Server) -> None:
    with server.client() as http:

        def paths(**filters: Any) -> list[str]:
            body = {"query": "where is the spare key?", "filters": filters}
            return [each["path"] for each in http.post("/v1/search", json=body).json()["data"]]

        assert set(paths(paths=["*.md", "!travel.md"])) == {"leave.md"}
        assert paths(kinds=["txt"]) == ["office/keys.txt"]
        assert paths(modified_before=1) == []


def test_a_question_beyond_the_documents_has_no_citation(server: Server) -> None:
    message = server.ask("Who painted the ceiling of the Sistine Chapel?").json()["choices"][0]["message"]
    assert not message.get("annotations")


def test_a_second_question_computes_only_its_new_tokens(server: Server) -> None:
    cold = server.ask("How long is the parental leave that is paid?").json()["usage"]
    warm = server.ask("How long is the parental leave that is paid?").json()["usage"]
    assert warm["prompt_tokens_details"]["cached_tokens"] == warm["prompt_tokens"] - 1
    assert cold["prompt_tokens"] == warm["prompt_tokens"]


def test_status_counts_documents_and_chunks(server: Server) -> None:
    status = server.status()
    assert (status["name"], status["documents"], status["pending"], status["failed"]) == ("handbook", 3, 0, [])
    assert status["chunks"] == 4
    assert status["root"] == str(server.docs)
    assert time.time() - status["last_change"] < 600


def test_raw_frames_satisfy_strict_parsers(server: Server) -> None:
    with server.client() as http:
        body = {"stream": True, "messages": [{"role": "user", "content": PARENTAL}]}
        response = http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(re.fullmatch(r"data: \S.*", line) for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert sum('"role":"assistant"' in line for line in lines) == 1
    assert sum('"annotations"' in line for line in lines) == 1
    assert not any('"usage"' in line for line in lines)


def test_a_saved_edited_renamed_and_deleted_file_shows_in_the_next_answer(server: Server) -> None:
    question = "What is the colour of the winter mascot?"
    note = server.docs / "mascot.md"
    note.write_text("# Mascot\n\nThe winter mascot is a green otter.\n")
    wait_until(lambda: "green otter" in server.answer(question), what="the new file in an answer")
    note.write_text("# Mascot\n\nThe winter mascot is a purple heron.\n")
    wait_until(lambda: "purple heron" in server.answer(question), what="the edit in an answer")
    new_path = note.rename(server.docs / "office" / "animal.md")

    def cited_paths() -> set[str]:
        annotations = server.ask(question).json()["choices"][0]["message"].get("annotations", [])
        return {annotation["url_citation"]["path"] for annotation in annotations}

    wait_until(lambda: cited_paths() == {"office/animal.md"}, what="the new name in a citation")
    new_path.unlink()
    wait_until(lambda: "heron" not in server.answer(question), what="the deleted file gone from answers")
    wait_until(lambda: server.status()["documents"] == len(HANDBOOK), what="as many documents as before")


def test_a_broken_document_is_listed_with_its_reason(server: Server) -> None:
    broken = server.docs / "broken.md"
    broken.write_bytes(b"\x00\x01\x02 not text")
    (failed,) = wait_until(lambda: server.status()["failed"], what="the failed row")
    assert failed["path"] == "broken.md"
    assert "binary" in failed["reason"]
    broken.unlink()
    wait_until(lambda: not server.status()["failed"], what="the row gone with its file")


@pytest.mark.parametrize(
    ("body", "status", "param", "message"),
    [
        ({"messages": []}, 400, "messages", "length"),
        ({}, 400, "messages", "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "messages[0].role", "wizard"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": 9}, 400, "temperature", "2"),
        ({"messages": [{"role": "user", "content": "x"}], "model": "gpt-9"}, 404, "model", "cloister/handbook"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0].content[0]", "text"),
        ({"messages": [{"role": "user", "content": "x"}], "logit_bias": {"a": 1}}, 400, "logit_bias", "token ids"),
        ({"messages": [{"role": "user", "content": "x"}], "rag": {"top_k": 0}}, 400, "rag.top_k", "1"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, 400, "messages", "context_length_exceeded"),
    ],
)
def test_bad_input_is_refused_with_its_field(
    server: Server, body: dict[str, Any], status: int, param: str, message: str
) -> None:
    with server.client() as http:
        response = http.post("/v1/chat/completions", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param), error
    assert message in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/chat/completions", b"{not json", 400),
        ("POST", "/v1/chat/completions", b"[" * 100_000, 400),
        ("POST", "/v1/chat/completions", b"\xff\xfe", 400),
        ("POST", "/v1/chat/completions", b"", 400),
        ("POST", "/v1/chat/completions", b" " * (11 << 20), 413),
        ("GET", "/v1/chat/completions", b"", 405),
        ("GET", "/v1/nothing", b"", 404),
        ("GET", "/documents/99999", b"", 404),
        ("POST", "/v1/search", b'{"query": ""}', 400),
        ("POST", "/v1/search", b'{"query": "x", "collections": ["nowhere"]}', 404),
        ("POST", "/v1/search", b'{"query": "x", "filters": {"paths": ["!\\\\"]}}', 400),
        ("POST", "/v1/search", b'{"query": "x", "filters": {"path": ["*.md"]}}', 400),
    ],
)
def test_every_refusal_is_json(server: Server, method: str, path: str, content: bytes, status: int) -> None:
    with server.client() as http:
        response = http.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    assert response.json()["error"]["message"]
    assert server.is_healthy()


def test_nulls_and_unknown_fields_are_ignored_at_every_depth(server: Server) -> None:
    content = [{"type": "text", "text": PARENTAL, "cache_control": {"type": "ephemeral"}}]
    body = {
        "model": None,
        "messages": [{"role": "user", "content": content, "cot_id": 1}],
        "temperature": None,
        "tools": None,
        "stream": None,
        "stop": None,
        "samplers": ["top_k"],
    }
    with server.client() as http:
        response = http.post("/chat/completions", json=body)
    assert SENTENCE in response.json()["choices"][0]["message"]["content"]


SCHEMA = {
    "type": "object",
    "properties": {"weeks": {"type": "integer", "minimum": 0, "maximum": 99}, "paid": {"type": "boolean"}},
    "required": ["weeks", "paid"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("model", ["cloister", "reader-v1"])
def test_an_answer_constrained_by_a_schema_conforms_to_it(server: Server, model: str) -> None:
    """An extractive model fills a schema with values that mean nothing; the reply still conforms."""
    with openai_client(server) as client:
        completion = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": PARENTAL}],
            response_format={"type": "json_schema", "json_schema": {"name": "leave", "schema": SCHEMA, "strict": True}},
        )
    answer = json.loads(completion.choices[0].message.content or "")
    assert answer.keys() == {"weeks", "paid"}
    assert 0 <= answer["weeks"] <= 99
    assert isinstance(answer["paid"], bool)


def test_a_schema_that_cannot_be_enforced_is_refused_with_its_path(server: Server) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "not": {"const": 3}}}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    error = server.ask(PARENTAL, response_format=form).json()["error"]
    assert error["param"] == "response_format.json_schema.schema.properties.n.not"
    assert error["code"] == "invalid_value"


def test_stop_strings_and_limits_are_kept(server: Server) -> None:
    choice = server.ask(PARENTAL, stop=["sixteen"]).json()["choices"][0]
    assert choice["message"]["content"].endswith("Parental leave is ")
    assert choice["finish_reason"] == "stop"
    cut = server.ask(PARENTAL, max_tokens=3).json()
    assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 3)
