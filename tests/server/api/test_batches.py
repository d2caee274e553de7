"""Batches with a made-up model: their input, their end by the clock, whose they are, and what is tried again."""

import asyncio
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.errors import ModelDoesNotFit, ProcessFailed, QueueFull
from server.access.keys import Role
from server.access.principal import UNRESTRICTED, Principal
from server.api.batches import input_file as reading
from server.api.batches.input_file import InputReader, InvalidInput
from server.api.batches.wire import Batch, RequestCounts
from server.errors import BatchNotFound
from server.jobs import runner as job_runner
from server.jobs.runner import retry_when_available
from server.storage.sqlite.batches import BatchStore, Done, Line, Order
from tests.server.serving import FakeIndex, PlayedModel, serving

URL = "/v1/chat/completions"
ORDER = Order(UNRESTRICTED, "http://x/")


def _line(custom_id: str, **fields: Any) -> bytes:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": URL, "body": {}, **fields}).encode() + b"\n"


def _codes(content: bytes) -> list[str]:
    reader = InputReader(io.BytesIO(content), URL)
    with pytest.raises(InvalidInput) as refused:
        while reader.group():
            pass
    return [error.code for error in refused.value.errors]


def test_lines_are_read_in_groups_and_empty_ones_passed_over() -> None:
    content = b"\n".join(_line(str(number)) for number in range(501))
    reader = InputReader(io.BytesIO(content), URL)
    groups = [reader.group() for _ in range(3)]
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
        (_line(""), ["invalid_json_line"]),
        (_line("a", method="GET"), ["invalid_method"]),
        (_line("a", url="/v1/embeddings"), ["mismatched_url"]),
        (_line("a", body="text") + _line("a") + _line("a"), ["invalid_value", "duplicate_custom_id"]),
        (b"no\n" * 300, ["invalid_json_line"] * 100),
    ],
)
def test_a_wrong_line_is_named(content: bytes, codes: list[str]) -> None:
    assert _codes(content) == codes


def test_limits_of_a_file_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_LINES", 2)
    monkeypatch.setattr(reading, "LONGEST_LINE", 200)
    assert _codes(_line("a") + _line("b") + _line("c")) == ["too_many_lines"]
    assert _codes(_line("a") + _line("b", body={"x": "y" * 200})) == ["line_too_long"]


def _batch(id: str = "batch_1", **fields: Any) -> Batch:
    now = int(time.time())
    told: dict[str, Any] = {"created_at": now, "expires_at": now + 60, "metadata": {}}
    return Batch(
        id=id,
        endpoint=URL,
        input_file_id="file-1",
        completion_window="24h",
        status="validating",
        **{**told, **fields},
    )


def test_a_line_is_done_once(tmp_path: Path) -> None:
    def counted(batch: Batch) -> Batch:
        counts = RequestCounts(2, batch.request_counts.completed + 1)
        return msgspec.structs.replace(batch, request_counts=counts)

    async def check(store: BatchStore) -> None:
        await store.add(_batch(), ORDER)
        await store.add_lines("batch_1", [Line(1, "a", b"{}"), Line(3, "b", b"{}")])
        assert await store.next_line("batch_1", 1) == Line(3, "b", b"{}")
        for output in (b"first", b"second"):
            await store.finish_line("batch_1", 1, Done(output, False), counted)
        assert (await store.get("batch_1")).request_counts.completed == 1
        assert await store.next_line("batch_1", 0) == Line(3, "b", b"{}")
        ((_, done), (_, left)) = await store.lines("batch_1", 0, 10)
        assert (done, left) == (Done(b"first", False), None)
        await store.change("batch_1", lambda batch: msgspec.structs.replace(batch, status="completed"))
        assert await store.unfinished() == []
        assert await store.lines("batch_1", 0, 10) == []

    with BatchStore(tmp_path) as store:
        asyncio.run(check(store))


@pytest.mark.parametrize("collections", [frozenset({"x"}), None])
def test_a_key_sees_its_own(tmp_path: Path, collections: frozenset[str] | None) -> None:
    async def check(store: BatchStore) -> None:
        mine, other = (store.seen_by(Principal(name, Role.WRITE, collections)) for name in "ab")
        await mine.add(_batch(), ORDER)
        assert [len(await each.batches()) for each in (mine, other, store)] == [1, 0, 1]
        with pytest.raises(BatchNotFound):
            await other.get("batch_1")

    with BatchStore(tmp_path) as store:
        asyncio.run(check(store))


def test_what_is_left_when_the_window_ends_is_told(tmp_path: Path) -> None:
    async def prepare(store: BatchStore) -> None:
        late = _batch(expires_at=int(time.time()) - 1)
        await store.add(late, ORDER)
        await store.add_lines("batch_1", [Line(number, f"line-{number}", b"{}") for number in (1, 2)])
        counts = RequestCounts(2, 1)
        await store.finish_line(
            "batch_1",
            1,
            Done(b'{"custom_id":"line-1"}', False),
            lambda batch: msgspec.structs.replace(batch, status="in_progress", request_counts=counts),
        )

    with BatchStore(tmp_path) as store:
        asyncio.run(prepare(store))
    with serving(tmp_path, PlayedModel(), FakeIndex([])) as client:
        batch = _until(lambda: (b := client.get("/v1/batches/batch_1").json())["status"] == "expired" and b)
        assert batch["expired_at"]
        texts = [client.get(f"/v1/files/{batch[name]}/content").text for name in ("output_file_id", "error_file_id")]
        assert json.loads(texts[0]) == {"custom_id": "line-1"}
        left = json.loads(texts[1])
        assert (left["custom_id"], left["error"]["code"], left["response"]) == ("line-2", "batch_expired", None)


def _until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if found := condition():
            return found
    pytest.fail("not within 10 s")


def test_what_finds_no_room_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(job_runner.asyncio, "sleep", sleep)

    def run(*errors: Exception) -> str:
        left = list(errors)

        async def attempt() -> str:
            if left:
                raise left.pop(0)
            return "done"

        return asyncio.run(retry_when_available(attempt))

    full, failed = QueueFull(3, retry_after=2), ProcessFailed("engine", "gone")
    assert run(full, full, ModelDoesNotFit("m", 2, 1, retry_after=7), failed, failed) == "done"
    assert waited == [2, 2, 7, 1, 1]
    for errors in ([failed] * 3, [ModelDoesNotFit("m", 2, 1)], [ValueError()]):
        with pytest.raises(type(errors[0])):
            run(*errors)
