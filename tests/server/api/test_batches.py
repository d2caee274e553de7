"""Batches with a scripted model: their input file, their expiry, and their unfinished lines after a restart."""

import asyncio
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.access.principal import UNRESTRICTED
from server.api.batches import input_file
from server.api.batches.input_file import InputReader, InvalidInput
from server.storage.base import BatchStore
from server.storage.records import BatchLine, BatchOptions, BatchRecord, LineOutcome, RequestCounts
from server.storage.sqlite.batches import SqliteBatchStore
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

URL = "/v1/chat/completions"


def line(custom_id: str, **fields: Any) -> bytes:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": URL, "body": {}, **fields}).encode() + b"\n"


def codes_of(content: bytes) -> list[str]:
    reader = InputReader(io.BytesIO(content), URL)
    with pytest.raises(InvalidInput) as invalid:
        while reader.next_lines():
            pass
    return [error.code for error in invalid.value.errors]


def test_lines_are_read_in_groups_and_empty_lines_skipped() -> None:
    content = b"\n".join(line(str(number)) for number in range(501))
    reader = InputReader(io.BytesIO(content), URL)
    groups = [reader.next_lines() for _ in range(3)]
    assert [len(group) for group in groups] == [500, 1, 0]
    assert [line.custom_id for group in groups for line in group] == [str(number) for number in range(501)]
    assert groups[1][0].number == 1001
    assert reader.num_lines == 501


@pytest.mark.parametrize(
    ("content", "codes"),
    [
        (b"", ["empty_file"]),
        (b"\n \n", ["empty_file"]),
        (b"\xff\n", ["invalid_json_line"]),
        (b"[" * 100_000, ["invalid_json_line"]),
        (line(""), ["invalid_json_line"]),
        (line("a", method="GET"), ["invalid_method"]),
        (line("a", url="/v1/embeddings"), ["mismatched_url"]),
        (line("a", body="text") + line("a") + line("a"), ["invalid_value", "duplicate_custom_id"]),
        (b"no\n" * 300, ["invalid_json_line"] * 100),
    ],
)
def test_each_fault_of_the_input_file_has_its_code(content: bytes, codes: list[str]) -> None:
    assert codes_of(content) == codes


def test_the_number_and_size_of_lines_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_file, "MAX_LINES", 2)
    monkeypatch.setattr(input_file, "MAX_LINE_BYTES", 200)
    assert codes_of(line("a") + line("b") + line("c")) == ["too_many_lines"]
    assert codes_of(line("a") + line("b", body={"x": "y" * 200})) == ["line_too_long"]


def store_batch(folder: Path, expires_in_s: int, body: bytes = b"{}") -> None:
    """Store a batch in progress with two lines, of which the first is done."""

    async def store_it(store: BatchStore) -> None:
        now = int(time.time())
        batch = BatchRecord(
            id="batch_1",
            endpoint=URL,
            input_file_id="file-1",
            completion_window="24h",
            status="in_progress",
            created_at=now,
            expires_at=now + expires_in_s,
            metadata={},
            request_counts=RequestCounts(2, 1),
        )
        await store.add(batch, BatchOptions(UNRESTRICTED, "http://x/"))
        await store.add_lines("batch_1", [BatchLine(number, f"line-{number}", body) for number in (1, 2)])
        outcome = LineOutcome(b'{"custom_id":"line-1"}', is_error=False)
        assert await store.finish_line("batch_1", 1, outcome, lambda current: current) is not None

    with SqliteBatchStore(folder) as store:
        asyncio.run(store_it(store))


def test_lines_that_are_left_when_the_window_ends_are_in_the_error_file(tmp_path: Path) -> None:
    store_batch(tmp_path, expires_in_s=-1)
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([])) as client:
        batch = wait_for(lambda: (b := client.get("/v1/batches/batch_1").json())["status"] == "expired" and b)
        assert batch["expired_at"]
        texts = [client.get(f"/v1/files/{batch[name]}/content").text for name in ("output_file_id", "error_file_id")]
        assert json.loads(texts[0]) == {"custom_id": "line-1"}
        undone = json.loads(texts[1])
        assert (undone["custom_id"], undone["error"]["code"], undone["response"]) == ("line-2", "batch_expired", None)


def test_the_undone_lines_of_a_data_folder_without_a_queue_are_run(tmp_path: Path) -> None:
    store_batch(tmp_path, expires_in_s=600, body=b'{"messages": [{"role": "user", "content": "Hello"}]}')
    assert not (tmp_path / "jobs.sqlite3").exists()
    with serving(tmp_path, ScriptedChatModel(), FakeIndex([])) as client:
        batch = wait_for(lambda: (b := client.get("/v1/batches/batch_1").json())["status"] == "completed" and b)
        assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
        assert batch["error_file_id"] is None
        lines = client.get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()
        assert json.loads(lines[0]) == {"custom_id": "line-1"}
        second = json.loads(lines[1])
        assert (second["custom_id"], second["response"]["status_code"]) == ("line-2", 200)
        assert batch["usage"]["output_tokens"] == second["response"]["body"]["usage"]["completion_tokens"] > 0


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if result := condition():
            return result
    pytest.fail("not within 10 s")
