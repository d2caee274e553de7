"""The audit log: who did what, without content, within its limits."""

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.access.hosts import Hosts
from server.access.keys import Role
from server.access.middleware import Access
from server.observability.audit import AuditLog
from server.settings.params import AuditLevel
from server.storage.local import audit
from server.storage.local.audit import AuditFolder
from server.storage.local.keys import KeyFile
from server.storage.records import AuditEntry
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

SECRET = "the-canary-sings"


def entries(data: Path) -> list[AuditEntry]:
    file = data / "audit" / "audit.jsonl"
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [msgspec.json.decode(line, type=AuditEntry) for line in lines]


def use(data: Path, level: AuditLevel) -> list[AuditEntry]:
    """Send requests with two keys and return the entries of the audit log."""
    keys = KeyFile(data)
    reader = {"Authorization": f"Bearer {keys.create('reader', Role.READ, None, None, None)[1]}"}
    writer = {"Authorization": f"Bearer {keys.create('writer', Role.WRITE, None, None, None)[1]}"}
    access = Access(Hosts("127.0.0.1", ["testserver.local"]), keys=keys)
    with serving(data, ScriptedChatModel(), FakeIndex([]), access, level) as client:
        client.get("/v1/models", headers=reader)
        client.post("/v1/search", json={"query": SECRET}, headers=reader)
        form: Any = {"files": {"file": (f"{SECRET}.md", SECRET.encode())}, "data": {"purpose": "assistants"}}
        assert client.post("/v1/files", headers=reader, **form).status_code == 403
        file = client.post("/v1/files", headers=writer, **form).json()["id"]
        client.get(f"/v1/files/{SECRET}", headers=writer)
        client.delete(f"/v1/files/{file}", headers=writer)
        client.delete(f"/v1/files/{SECRET}", headers=writer)
        client.post("/v1/search", json={"query": SECRET}, headers={"Authorization": f"Bearer {SECRET}"})
        client.get(f"/{SECRET}", headers=writer)
    noted_entries = entries(data)
    text = b"".join(path.read_bytes() for path in data.rglob("audit*") if path.is_file())
    assert SECRET.encode() not in text
    assert not noted_entries or file in text.decode()
    return noted_entries


def test_changes_and_refusals_are_logged_at_level_changes(tmp_path: Path) -> None:
    log_entries = use(tmp_path, "changes")
    assert [(each.key, each.operation, each.status) for each in log_entries] == [
        ("reader", "uploadFile", 403),
        ("writer", "uploadFile", 200),
        ("writer", "deleteFile", 200),
        ("writer", "deleteFile", 404),
        ("", "", 401),
    ]
    assert [bool(each.ids) for each in log_entries] == [False, False, True, False, False]
    assert all(each.address and each.at > 1_700_000_000 and each.request.startswith("req_") for each in log_entries)
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "audit" / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_every_request_is_logged_at_level_all(tmp_path: Path) -> None:
    log_entries = use(tmp_path, "all")
    assert [each.operation for each in log_entries][:2] == ["listModels", "search"]
    assert len(log_entries) == 9


def test_nothing_is_logged_at_level_off(tmp_path: Path) -> None:
    assert use(tmp_path, "off") == []
    assert not (tmp_path / "audit").exists()


def entry(number: int) -> AuditEntry:
    return AuditEntry(
        at=float(number), key="k", address="127.0.0.1", operation="search", status=200, request=f"req_{number}"
    )


def test_old_audit_files_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(audit, "_MAX_FILES", 3)
    for run in range(2):  # it goes on after a restart
        with AuditLog(AuditFolder(tmp_path), "all") as log:
            for number in range(100):
                log.record(entry(100 * run + number), is_change=False)
    files = sorted((tmp_path / "audit").iterdir())
    assert [path.name for path in files] == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert all(path.stat().st_size <= 1000 for path in files)
    assert entries(tmp_path)[-1].request == "req_199"


def test_a_full_disk_is_logged_once_and_stops_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with AuditLog(AuditFolder(tmp_path), "all") as log, caplog.at_level(logging.ERROR):
        log.record(entry(1), is_change=False)
        with monkeypatch.context() as broken:
            broken.setattr(audit.os, "write", full)
            for number in range(5):
                log.record(entry(number), is_change=False)
        log.record(entry(2), is_change=False)
    assert [record.message for record in caplog.records] == [
        "the audit log cannot be written, entries are lost: [Errno 28] No space left on device"
    ]
    assert [each.request for each in entries(tmp_path)] == ["req_1", "req_2"]
