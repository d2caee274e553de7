"""/v1/batches through OpenAI's own client, with real models, and killed half-way."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from running import Server, serving, wait_until, write_handbook

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

QUESTION = "How long is parental leave?"


def _client(server: Server) -> OpenAI:
    http = httpx.Client(trust_env=False)
    return OpenAI(
        base_url=f"{server.url}/v1", api_key="none", http_client=http, max_retries=0, _strict_response_validation=True
    )


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with _client(server) as made:
        yield made


def _chat(content: str, **fields: Any) -> dict[str, Any]:
    return {"model": "reader-v1", "messages": [{"role": "user", "content": content}], "max_tokens": 2, **fields}


def _batch(client: OpenAI, endpoint: Any, bodies: list[dict[str, Any]], **fields: Any) -> str:
    lines = [
        json.dumps({"custom_id": f"line-{at}", "method": "POST", "url": endpoint, "body": body})
        for at, body in enumerate(bodies)
    ]
    file = client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **fields).id


def _done(client: OpenAI, id: str, timeout_s: float = 60) -> Any:
    over = ("completed", "failed", "cancelled", "expired")
    return wait_until(lambda: (batch := client.batches.retrieve(id)).status in over and batch, timeout_s, "the batch")


def _lines(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_lines_are_answered_and_errors_told_apart(client: OpenAI) -> None:
    bodies = [
        {"model": "cloister", "messages": [{"role": "user", "content": QUESTION}]},
        _chat("Hello", temperature=99),
        _chat("Hello"),
    ]
    id = _batch(client, "/v1/chat/completions", bodies, metadata={"for": "test"})
    batch = _done(client, id)
    assert (batch.status, batch.metadata, batch.errors) == ("completed", {"for": "test"}, None)
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
    first, third = _lines(client, batch.output_file_id)
    assert [first["custom_id"], third["custom_id"]] == ["line-0", "line-2"]
    assert first["response"]["status_code"] == 200
    assert "sixteen" in first["response"]["body"]["choices"][0]["message"]["content"]
    used = [line["response"]["body"]["usage"]["total_tokens"] for line in (first, third)]
    assert batch.usage.total_tokens == sum(used)
    (failed,) = _lines(client, batch.error_file_id)
    assert failed["custom_id"] == "line-1"
    assert failed["response"]["status_code"] == 400
    assert failed["response"]["body"]["error"]["param"] == "temperature"
    assert id in [each.id for each in client.batches.list(limit=1)]


@pytest.mark.parametrize(
    ("endpoint", "body", "part"),
    [
        ("/v1/embeddings", {"input": "parental leave"}, "data"),
        ("/v1/responses", {"input": QUESTION}, "output"),
        ("/v1/completions", {"prompt": "Once", "model": "reader-v1", "max_tokens": 2}, "choices"),
    ],
)
def test_every_endpoint_is_run(client: OpenAI, endpoint: str, body: dict[str, Any], part: str) -> None:
    batch = _done(client, _batch(client, endpoint, [body]))
    assert batch.error_file_id is None
    (line,) = _lines(client, batch.output_file_id)
    assert len(line["response"]["body"][part]) == 1
    assert batch.usage.input_tokens > 0


def test_a_wrong_file_is_told_line_by_line(client: OpenAI) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}
    wrong = [line, {**line}, {**line, "custom_id": "b", "url": "/v1/x"}, {**line, "custom_id": "c", "body": []}, "no"]
    text = "\n".join(json.dumps(each) for each in wrong)
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert made.status == "validating"
    batch = _done(client, made.id)
    assert batch.status == "failed"
    assert [(error.line, error.code) for error in batch.errors.data] == [
        (2, "duplicate_custom_id"),
        (3, "mismatched_url"),
        (4, "invalid_value"),
        (5, "invalid_json_line"),
    ]
    with pytest.raises(NotFoundError):
        client.batches.create(input_file_id="file-x", endpoint="/v1/responses", completion_window="24h")
    with pytest.raises(BadRequestError):
        client.batches.create(input_file_id=file.id, endpoint="/v1/images/edits", completion_window="24h")
    with pytest.raises(BadRequestError):
        client.batches.cancel(batch.id)
    with pytest.raises(BadRequestError):
        client.batches.list(after="batch_x")


def test_a_cancelled_batch_keeps_what_is_done_and_chat_comes_first(client: OpenAI, server: Server) -> None:
    id = _batch(client, "/v1/chat/completions", [_chat("Tell a story.", max_tokens=300)] * 40)
    wait_until(lambda: client.batches.retrieve(id).request_counts.completed, 60, "a line")
    assert "sixteen" in server.answer(QUESTION)
    assert client.batches.cancel(id).status == "cancelling"
    batch = _done(client, id)
    assert batch.status == "cancelled"
    done, left = _lines(client, batch.output_file_id), _lines(client, batch.error_file_id)
    assert len(done) == batch.request_counts.completed > 0
    assert {line["error"]["code"] for line in left} == {"batch_cancelled"}
    assert sorted(line["custom_id"] for line in done + left) == sorted(f"line-{at}" for at in range(40))


def test_after_a_kill_every_line_is_done_exactly_once(tmp_path: Path) -> None:
    docs = write_handbook(tmp_path / "handbook")
    with serving(tmp_path, docs) as server:
        with _client(server) as client:
            id = _batch(client, "/v1/chat/completions", [_chat(f"Say {at}.", max_tokens=8) for at in range(200)])
            later = client.responses.create(model="cloister", input=QUESTION, background=True)
            before = wait_until(
                lambda: (n := client.batches.retrieve(id).request_counts.completed) >= 40 and n, 60, "lines"
            )
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    assert before < 200, "it was killed in the middle"
    kept = _kept(tmp_path / "data")
    assert len(kept) >= before
    with serving(tmp_path, docs) as server, _client(server) as client:
        batch = _done(client, id, 120)
        assert batch.status == "completed"
        assert batch.request_counts.completed == 200
        lines = client.files.content(batch.output_file_id).text.splitlines()
        assert [json.loads(line)["custom_id"] for line in lines] == [f"line-{at}" for at in range(200)]
        assert kept <= set(lines), "what was done is as it was"
        assert len(client.files.list(purpose="batch_output").data) == 1
        answer = wait_until(
            lambda: (found := client.responses.retrieve(later.id)).status == "completed" and found, 20, "the response"
        )
        assert "sixteen" in answer.output_text


def _kept(data: Path) -> set[str]:
    """Lines that were done, as they are kept."""
    db = apsw.Connection(str(data / "batches.sqlite3"))
    try:
        rows = db.execute("SELECT output FROM lines WHERE is_error IS NOT NULL").fetchall()
    finally:
        db.close()
    return {bytes(output).decode() for (output,) in rows}
