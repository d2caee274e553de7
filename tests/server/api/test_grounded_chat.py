"""Grounded requests to POST /v1/chat/completions: their fields, and their replies."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from index.types import FileSubset, Filters, Location, Passage
from index.uploads import UPLOADS
from models.llm.chat.events import ToolCallArguments, ToolCallStart
from server.files.folders import folder_store_id
from server.rag.citations import without_source_list
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, frames, serving

LEAVE = Passage(7, 3, "handbook", "people/leave.md", ("Leave",), "Leave is long. It is sixteen weeks.", 5, 6, 0.9)
TRAVEL = Passage(9, 4, "policies", "travel.pdf", (), "Trains come first.", 1, 1, 0.5, place=Location("page", 3, 3))
QUESTION = {"role": "user", "content": "How long is leave?"}
TITLE = {"role": "user", "content": "Generate a concise 3-7 word title for this conversation, omitting punctuation."}
CALL = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


class Talk:
    def __init__(self, client: TestClient[Any], model: ScriptedChatModel, index: FakeIndex) -> None:
        self.client = client
        self.model = model
        self.index = index

    def post(self, *messages: dict[str, Any], headers: dict[str, str] | None = None, **fields: Any) -> Any:
        body = {"messages": messages or [QUESTION], **fields}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def ask(self, *messages: dict[str, Any], headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        response = self.post(*messages, headers=headers, **fields)
        assert response.status_code == 200, response.text
        reply: dict[str, Any] = response.json()
        ChatCompletion.model_validate(reply, strict=True)
        return reply

    def stream(self, *messages: dict[str, Any], **fields: Any) -> list[Any]:
        chunks = frames(self.post(*messages, stream=True, **fields).text)
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk)
        return list(chunks)


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    model, index = ScriptedChatModel(), FakeIndex([LEAVE, TRAVEL])
    with serving(tmp_path, model, index) as client:
        yield Talk(client, model, index)


def message(reply: dict[str, Any]) -> dict[str, Any]:
    reply_message: dict[str, Any] = reply["choices"][0]["message"]
    return reply_message


def test_an_annotation_has_every_field_of_its_source(talk: Talk) -> None:
    talk.model.says = "Naïve 🙂: it is sixteen weeks [1, 9] or by train [^2]."
    answer = message(talk.ask())
    assert answer["content"] == "Naïve 🙂: it is sixteen weeks [1] or by train [2]."
    first, second = answer["annotations"]
    assert first == {
        "type": "url_citation",
        "index": 0,
        "url_citation": {
            "url": "http://testserver.local/documents/3?chunk=7#chunk-7",
            "title": "handbook/people/leave.md › Leave",
            "start_index": 29,
            "end_index": 32,
            "content": LEAVE.text,
            "quote": "It is sixteen weeks.",
            "number": 1,
            "document_id": 3,
            "chunk_id": 7,
            "collection": "handbook",
            "path": "people/leave.md",
            "filename": "leave.md",
            "heading": ["Leave"],
            "lines": [5, 6],
            "place": None,
            "page": None,
            "score": 0.9,
        },
    }
    assert answer["content"][29:32] == "[1]"
    assert (second["index"], second["url_citation"]["place"], second["url_citation"]["page"]) == (1, "p. 3", 3)
    assert second["url_citation"]["quote"] is None, "it shares no word"


def test_a_stream_has_one_chunk_of_annotations_and_the_report_in_its_first_and_last_chunk(talk: Talk) -> None:
    talk.model.says = "Sixteen weeks [1][9], by train [2]."
    whole = talk.ask()
    chunks = talk.stream(stream_options={"include_usage": True})
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == message(whole)["content"]
    assert [delta["annotations"] for delta in deltas if "annotations" in delta] == [message(whole)["annotations"]]
    assert [at for at, chunk in enumerate(chunks) if "rag" in chunk] == [0, len(chunks) - 2]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[0]["rag"] == chunks[-2]["rag"] == whole["rag"]
    assert chunks[-1]["choices"] == []


def test_the_report_has_queries_and_passages(talk: Talk) -> None:
    rag = talk.ask()["rag"]
    assert rag["queries"] == ["How long is leave?"]
    assert rag["dropped"] == []
    assert rag["tokens"] > len(LEAVE.text) + len(TRAVEL.text)
    assert rag["passages"][0] == {
        "number": 1,
        "document_id": 3,
        "chunk_id": 7,
        "collection": "handbook",
        "path": "people/leave.md",
        "place": None,
        "lines": [5, 6],
        "heading": ["Leave"],
        "score": 0.9,
        "also_in": [],
        "url": "http://testserver.local/documents/3?chunk=7#chunk-7",
        "is_new": True,
    }
    assert [(p["number"], p["place"]) for p in rag["passages"]] == [(1, None), (2, "p. 3")]


def test_with_several_answers_the_first_and_the_last_chunk_have_the_report(talk: Talk) -> None:
    chunks = talk.stream(n=3)
    assert [at for at, chunk in enumerate(chunks) if "rag" in chunk] == [0, len(chunks) - 1]
    assert len(talk.ask(n=2)["choices"]) == 2


def test_the_report_of_a_second_turn_marks_new_passages(talk: Talk) -> None:
    talk.index.passages = [LEAVE]
    answer = {"role": "assistant", "content": message(talk.ask())["content"]}
    talk.index.passages = [LEAVE, TRAVEL]
    rag = talk.ask(QUESTION, answer, {"role": "user", "content": "And by train?"})["rag"]
    assert [(p["number"], p["is_new"]) for p in rag["passages"]] == [(1, False), (2, True)]


def test_the_report_has_no_passages_where_nothing_was_found(talk: Talk) -> None:
    talk.index.passages = []
    talk.model.says = "The sources do not answer this. [1]"
    reply = talk.ask()
    assert (reply["rag"]["passages"], reply["rag"]["tokens"]) == ([], 0)
    assert message(reply)["content"] == "The sources do not answer this."
    assert "annotations" not in message(reply)


def test_a_chat_model_alone_is_never_grounded(talk: Talk) -> None:
    reply = talk.ask(model="played", rag={"mode": "always", "citations": "both", "collections": ["nowhere"]})
    assert "rag" not in reply
    assert message(reply)["content"] == "Yes [1]."
    assert talk.index.searches == []
    assert LEAVE.text not in talk.model.prompts[0]


@pytest.mark.parametrize(("mode", "is_searched"), [("auto", False), ("always", True), ("never", False), (None, False)])
def test_an_auxiliary_request_is_searched_for_in_mode_always_alone(
    talk: Talk, mode: str | None, is_searched: bool
) -> None:
    reply = talk.ask(TITLE, rag={"mode": mode})
    assert ("rag" in reply, len(talk.index.searches)) == (is_searched, is_searched)
    assert (LEAVE.text in talk.model.prompts[0]) is is_searched


def test_an_auxiliary_request_keeps_the_sources_of_its_conversation(talk: Talk) -> None:
    """The prompt begins as before, so that its prefix is cached; the reply has no citations."""
    answer = {"role": "assistant", "content": message(talk.ask())["content"]}
    talk.model.says = '{"tags": [1, 7]}'
    reply = talk.ask(QUESTION, answer, TITLE)
    assert message(reply) == {"role": "assistant", "content": '{"tags": [1, 7]}', "refusal": None}
    assert "rag" not in reply
    assert len(talk.index.searches) == 1
    first_prompt, second_prompt = talk.model.prompts
    assert second_prompt.startswith(first_prompt.removesuffix(">"))


@pytest.mark.parametrize(("mode", "is_cited"), [("auto", True), ("always", True), ("never", False)])
def test_a_tool_result_is_not_searched_for_and_its_question_keeps_its_sources(
    talk: Talk, mode: str, is_cited: bool
) -> None:
    talk.model.says, talk.model.events = "", (ToolCallStart(0, "c1", "now"), ToolCallArguments(0, "{}"))
    talk.ask(tools=[NOW])
    talk.model.says, talk.model.events = "Sixteen weeks [1].", ()
    call_message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "noon"}
    reply = talk.ask(QUESTION, call_message, result, tools=[NOW], rag={"mode": mode})
    assert len(talk.index.searches) == 1
    assert ("annotations" in message(reply), LEAVE.text in talk.model.prompts[1]) == (is_cited, is_cited)
    if is_cited:
        assert [p["is_new"] for p in reply["rag"]["passages"]] == [False, False]


def test_a_tool_result_of_an_unknown_conversation_is_not_grounded(talk: Talk) -> None:
    call_message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    reply = talk.ask(QUESTION, call_message, {"role": "tool", "tool_call_id": "c1", "content": "noon"})
    assert "rag" not in reply
    assert message(reply)["content"] == "Yes [1]."


@pytest.mark.parametrize("way", ["body", "headers"])
def test_collections_and_top_k_come_from_the_body_or_from_headers(talk: Talk, way: str) -> None:
    headers = {"x-cloister-collections": "policies, handbook", "x-cloister-top-k": "2"}
    rag = {"collections": ["policies", "handbook"], "top_k": 2}
    talk.ask(model="cloister/handbook", **({"rag": rag} if way == "body" else {"headers": headers}))
    assert talk.index.searches == [(["How long is leave?"], 2, ["policies", "handbook"], None)]


def test_vector_stores_are_searched_alone_or_beside_named_collections(talk: Talk) -> None:
    file = talk.client.post("/v1/files", files={"file": ("a.md", b"text")}, data={"purpose": "assistants"}).json()
    store = talk.client.post("/v1/vector_stores", json={"file_ids": [file["id"]]}).json()["id"]
    talk.ask(rag={"vector_stores": [store]})
    talk.ask(model="cloister/handbook", rag={"vector_stores": [store], "collections": ["policies"]})
    talk.ask(rag={"vector_stores": [folder_store_id("handbook")]})
    assert [collections for _, _, collections, _ in talk.index.searches] == [
        [UPLOADS],
        [UPLOADS, "policies"],
        ["handbook"],
    ]
    subsets = (FileSubset(UPLOADS, frozenset({f"auto/{file['id']}/a.md"})),)
    assert talk.index.subsets == [subsets, subsets, ()]


def test_an_unknown_vector_store_is_a_404_that_names_it(talk: Talk) -> None:
    response = talk.post(rag={"vector_stores": ["vs_x"]}, stream=True)
    assert (response.status_code, "vs_x" in response.json()["error"]["message"]) == (404, True)


def test_filters_reach_the_index(talk: Talk) -> None:
    talk.ask(rag={"filters": {"paths": ["people/**", "!old"], "kinds": ["md"], "modified_after": 5}})
    talk.ask(rag={"filters": {"paths": None, "kinds": [], "modified_before": None}})
    filters = Filters(paths=("people/**", "!old"), kinds=("md",), modified_after=5.0)
    assert [filters for *_, filters in talk.index.searches] == [filters, None]


@pytest.mark.parametrize(
    ("rag", "param"),
    [
        ("yes", "rag"),
        ({"mode": "maybe"}, "rag.mode"),
        ({"citations": 1}, "rag.citations"),
        ({"top_k": 0}, "rag.top_k"),
        ({"top_k": 101}, "rag.top_k"),
        ({"collections": "handbook"}, "rag.collections"),
        ({"collections": []}, "rag.collections"),
        ({"collections": [1]}, "rag.collections[0]"),
        ({"vector_stores": []}, "rag.vector_stores"),
        ({"filters": {"paths": [""]}}, "rag.filters.paths[0]"),
        ({"filters": {"paths": ["a", "!!"]}}, "rag.filters.paths"),
        ({"filters": {"modified_after": "may"}}, "rag.filters.modified_after"),
        ({"filters": {"path": ["a"]}}, "rag.filters"),
    ],
)
def test_an_invalid_rag_field_is_named_by_its_path(talk: Talk, rag: object, param: str) -> None:
    response = talk.post(rag=rag)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, "invalid_value"), error


def test_an_unknown_collection_is_a_404(talk: Talk) -> None:
    for fields in ({"rag": {"collections": ["handbook", "x"]}}, {"headers": {"X-Cloister-Collections": "x"}}):
        response = talk.post(**fields)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "collection_not_found")
    bad = talk.post(headers={"X-Cloister-Mode": "maybe"})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "X-Cloister-Mode")


LIST = (
    "\n\nSources:\n[1] [handbook/people/leave.md › Leave](http://testserver.local/documents/3?chunk=7#chunk-7)"
    "\n[2] [policies/travel.pdf › p. 3](http://testserver.local/documents/4?chunk=9#chunk-9)"
)


@pytest.mark.parametrize(
    ("style", "content", "num_annotations"),
    [
        ("annotations", "So [2] and [1][2].", 3),
        ("inline", f"So [2] and [1][2].{LIST}", 0),
        ("both", f"So [2] and [1][2].{LIST}", 3),
        ("none", "So and.", 0),
    ],
)
def test_citation_styles_over_http(talk: Talk, style: str, content: str, num_annotations: int) -> None:
    talk.model.says = "So [2] and [1-2]."
    reply = talk.ask(rag={"citations": style})
    assert message(reply)["content"] == content
    assert len(message(reply).get("annotations", [])) == num_annotations
    assert len(reply["rag"]["passages"]) == 2
    deltas = [choice["delta"] for chunk in talk.stream(rag={"citations": style}) for choice in chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == content
    assert sum(len(delta.get("annotations", [])) for delta in deltas) == num_annotations


def test_a_source_list_that_a_client_sends_back_is_not_in_the_prompt(talk: Talk) -> None:
    first = message(talk.ask(rag={"citations": "inline"}))["content"]
    assert first != without_source_list(first) == "Yes [1]."
    talk.ask(QUESTION, {"role": "assistant", "content": first}, {"role": "user", "content": "And then?"})
    first_prompt, second_prompt = talk.model.prompts
    assert second_prompt.startswith(first_prompt.removesuffix(">"))
    assert "<assistant>Yes [1].</assistant>" in second_prompt


def test_a_response_format_keeps_grounding_and_its_text(talk: Talk) -> None:
    talk.model.says = '{"weeks": [16, 9], "why": "as written [1], not [9]"}'
    schema = {"type": "object", "properties": {"weeks": {"type": "array"}, "why": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "leave", "schema": schema}}
    reply = talk.ask(response_format=form, rag={"citations": "both"})
    assert message(reply)["content"] == talk.model.says
    (annotation,) = message(reply)["annotations"]
    assert annotation["url_citation"]["start_index"] == talk.model.says.index("[1]")
    assert len(talk.index.searches) == 1


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/chat/completions", {"json_schema": {"type": "odd"}}, "json_schema.type"),
        (
            "/v1/chat/completions",
            {"response_format": {"type": "json_object", "schema": {"not": {}}}},
            "response_format.schema.not",
        ),
        ("/v1/completions", {"prompt": "x", "json_schema": {"type": "odd"}}, "json_schema.type"),
        ("/completion", {"prompt": "x", "json_schema": {"not": {}}}, "json_schema.not"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused_with_its_field(
    talk: Talk, path: str, fields: dict[str, Any], param: str
) -> None:
    response = talk.client.post(path, json={"model": "played", "messages": [QUESTION], **fields})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, "invalid_value")


def test_system_message_tools_stops_and_logprobs_reach_the_model(talk: Talk) -> None:
    system = {"role": "system", "content": "Speak like a pirate."}
    talk.ask(system, QUESTION, tools=[NOW], tool_choice="required", stop=["\n"], logprobs=True, top_logprobs=2, n=2)
    assert "Speak like a pirate." in talk.model.prompts[0]
    assert LEAVE.text in talk.model.prompts[0]
    for request in talk.model.requests:
        assert request["tool_config"].choice == "required"
        assert list(request["stop"]) == ["\n"]
        assert request["sampling"].num_logprobs == 2
    assert len(talk.model.requests) == 2
