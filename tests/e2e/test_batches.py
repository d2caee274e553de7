"""/v1/batches through OpenAI's own client, with a real server, also after the server was killed."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from real_server import Server, serving, wait_until, write_handbook

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

QUESTION = "How long is parental leave?"


def open_client(server: Server) -> OpenAI:
    http = httpx.Client(trust_env=False)
    return OpenAI(
        base_url=f"{server.url}/v1", api_key="none", http_client=http, max_retries=0, _strict_response_validation=True
    )


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with open_client(server) as client:
        yield client


def chat_body(content: str, **fields: Any) -> dict[str, Any]:
    return {"model": "reader-v1", "messages": [{"role": "user", "content": content}], "max_tokens": 2, **fields}


def create_batch(client: OpenAI, endpoint: Any, bodies: list[dict[str, Any]], **fields: Any) -> str:
    lines = [
        json.dumps({"custom_id": f"line-{at}", "method": "POST", "url": endpoint, "body": body})
        for at, body in enumerate(bodies)
    ]
    file = client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **fields).id


def wait_until_over(client: OpenAI, id: str, timeout_s: float = 60) -> Any:
    over = ("completed", "failed", "cancelled", "expired")
    return wait_until(lambda: (batch := client.batches.retrieve(id)).status in over and batch, timeout_s, "the batch")


def read_lines(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_answers_and_errors_are_in_files_of_their_own(client: OpenAI) -> None:
    bodies = [
        {"model": "cloister", "messages": [{"role": "user", "content": QUESTION}]},
        chat_body("Hello", temperature=99),
        chat_body("Hello"),
    ]
    id = create_batch(client, "/v1/chat/completions", bodies, metadata={"for": "test"})
    batch = wait_until_over(client, id)
    assert (batch.status, batch.metadata, batch.errors) == ("completed", {"for": "test"}, None)
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
    first, third = read_lines(client, batch.output_file_id)
    assert [first["custom_id"], third["custom_id"]] == ["line-0", "line-2"]
    assert first["response"]["status_code"] == 200
    assert "sixteen" in first["response"]["body"]["choices"][0]["message"]["content"]
    used = [line["response"]["body"]["usage"]["total_tokens"] for line in (first, third)]
    assert batch.usage.total_tokens == sum(used)
    (failed,) = read_lines(client, batch.error_file_id)
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
def test_a_batch_can_use_every_endpoint(client: OpenAI, endpoint: str, body: dict[str, Any], part: str) -> None:
    batch = wait_until_over(client, create_batch(client, endpoint, [body]))
    assert batch.error_file_id is None
    (line,) = read_lines(client, batch.output_file_id)
    assert len(line["response"]["body"][part]) == 1
    assert batch.usage.input_tokens > 0


def test_the_faults_of_an_input_file_are_listed_by_line(client: OpenAI) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}
    wrong = [line, {**line}, {**line, "custom_id": "b", "url": "/v1/x"}, {**line, "custom_id": "c", "body": []}, "no"]
    text = "\n".join(json.dumps(each) for each in wrong)
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert batch.status == "validating"
    batch = wait_until_over(client, batch.id)
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


def test_a_cancelled_batch_keeps_its_answers_and_chat_is_answered_first(client: OpenAI, server: Server) -> None:
    id = create_batch(client, "/v1/chat/completions", [chat_body("Tell a story.", max_tokens=300)] * 40)
    wait_until(lambda: client.batches.retrieve(id).request_counts.completed, 60, "a line")
    assert "sixteen" in server.answer(QUESTION)
    assert client.batches.cancel(id).status == "cancelling"
    batch = wait_until_over(client, id)
    assert batch.status == "cancelled"
    done, undone = read_lines(client, batch.output_file_id), read_lines(client, batch.error_file_id)
    assert len(done) == batch.request_counts.completed > 0
    assert {line["error"]["code"] for line in undone} == {"batch_cancelled"}
    assert sorted(line["custom_id"] for line in done + undone) == sorted(f"line-{at}" for at in range(40))


def test_after_a_kill_every_line_is_answered_exactly_once(tmp_path: Path) -> None:
    docs = write_handbook(tmp_path / "handbook")
    with serving(tmp_path, docs) as server:
        with open_client(server) as client:
            id = create_batch(
                client, "/v1/chat/completions", [chat_body(f"Say {at}.", max_tokens=8) for at in range(200)]
            )
            later = client.responses.create(model="cloister", input=QUESTION, background=True)
            before = wait_until(
                lambda: (n := client.batches.retrieve(id).request_counts.completed) >= 40 and n, 60, "lines"
            )
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    assert before < 200, "it was killed in the middle"
    stored = stored_outputs(tmp_path / "data")
    assert len(stored) >= before
    with serving(tmp_path, docs) as server, open_client(server) as client:
        batch = wait_until_over(client, id, 120)
        assert batch.status == "completed"
        assert batch.request_counts.completed == 200
        lines = client.files.content(batch.output_file_id).text.splitlines()
        assert [json.loads(line)["custom_id"] for line in lines] == [f"line-{at}" for at in range(200)]
        assert stored <= set(lines), "no line is answered twice"
        assert len(client.files.list(purpose="batch_output").data) == 1
        answer = wait_until(
            lambda: (response := client.responses.retrieve(later.id)).status == "completed" and response,
            20,
            "the response",
        )
        assert "sixteen" in answer.output_text


def stored_outputs(data: Path) -> set[str]:
    """Return the output lines that the store has."""
    db = apsw.Connection(str(data / "batches.sqlite3"))
    try:
        rows = db.execute("SELECT output FROM lines WHERE is_error IS NOT NULL").fetchall()
    finally:
        db.close()
    return {bytes(output).decode() for (output,) in rows}
