"""`cloister doctor`: no failure in a sound installation; in a broken one, each failure with advice."""

import json
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from index.ingest.store import open_document_store
from index.storage.sqlite.database import FILE, open_writer
from index.types import Collection
from server.cli.main import main
from server.ops import package_checks

Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


@pytest.fixture
def doctor(tmp_path: Path, docs: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    def look(*arguments: str) -> tuple[int, dict[str, Any]]:
        usual = [f"--data={tmp_path / 'data'}", f"--docs=handbook={docs}", "--port=0"]
        code = main(["doctor", "--json", *usual, *arguments])
        return code, {each["name"]: each for each in json.loads(capsys.readouterr().out)}

    return look


def test_doctor_finds_no_failure_in_a_sound_installation(doctor: Doctor) -> None:
    code, checks = doctor()
    assert code == 0
    assert [name for name, each in checks.items() if each["state"] == "failure"] == []
    expected = {"python", "machine", "data folder", "documents handbook", "model reader-v1", "embedder", "index"}
    assert expected <= checks.keys()
    assert all(each["found"] for each in checks.values())


@pytest.mark.parametrize(
    ("arguments", "name", "says"),
    [
        (["--docs=gone=/nowhere/at/all"], "documents", "/nowhere/at/all"),
        (["--model=nobody"], "model nobody", "no model named 'nobody'"),
        (["--model=qwen3-4b"], "model qwen3-4b", "cloister models pull qwen3-4b"),
        (["--host=0.0.0.0"], "keys", "other machines can reach it"),
        (["--host=192.0.2.7"], "address", "192.0.2.7"),
        (["--data=/dev/null/x"], "data folder", "cannot be written to"),
    ],
)
def test_a_broken_setting_is_a_failure(doctor: Doctor, arguments: list[str], name: str, says: str) -> None:
    code, checks = doctor(*arguments)
    assert code == 1
    assert checks[name]["state"] == "failure"
    assert says in checks[name]["found"]


def test_a_port_in_use_is_a_warning(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code, checks = doctor(f"--port={listener.getsockname()[1]}")
    assert (code, checks["address"]["state"]) == (0, "warning")
    assert "--port" in checks["address"]["advice"]


def test_a_damaged_model_is_a_failure(doctor: Doctor, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + b"\xff" * 200)
    code, checks = doctor(f"--model={damaged}")
    assert (code, checks["model damaged"]["state"]) == (1, "failure")


def test_an_index_is_counted_and_a_damaged_one_is_a_failure(doctor: Doctor, tmp_path: Path, docs: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    writer = open_document_store(data)
    writer.configure([Collection("handbook", docs)])
    writer.close()
    assert doctor()[1]["index of handbook"]["found"].startswith("0 documents")
    with sqlite3.connect(data / FILE) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    content = bytearray((data / FILE).read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)
    (data / FILE).write_bytes(content)
    code, checks = doctor()
    assert (code, checks["index"]["state"]) == (1, "failure")
    assert "made anew from your files" in checks["index"]["advice"]


def test_an_index_that_others_can_read_is_a_warning(doctor: Doctor, tmp_path: Path) -> None:
    data = tmp_path / "data"
    open_writer(data).close()
    data.chmod(0o755)
    (data / FILE).chmod(0o644)
    assert "chmod -R go=" in doctor()[1]["data folder"]["advice"]
    data.chmod(0o700)
    assert doctor()[1]["data folder"]["state"] == "ok"


def test_keys_that_others_can_read_are_a_failure(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "keys.json"
    file.write_text("[]")
    file.chmod(0o644)
    code, checks = doctor()
    assert (code, checks["keys"]["state"]) == (1, "failure")


def test_other_versions_and_packages_with_telemetry_are_warnings(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("# pins\nmsgspec==0.0.1\nnot-there-at-all==1.0\n")
    monkeypatch.setattr(package_checks, "_PINS", pins)
    monkeypatch.setattr(package_checks, "_TELEMETRY", ("msgspec",))
    code, checks = doctor()
    assert (code, checks["packages"]["state"], checks["no telemetry"]["state"]) == (0, "warning", "warning")
    assert "for 0.0.1; not-there-at-all missing for 1.0" in checks["packages"]["found"]


def test_doctor_prints_a_line_with_advice_for_each_failure(doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--commands", "--port=0", "--data=/dev/null/x"]) == 1
    output = capsys.readouterr().out
    assert (
        "FAIL  data folder: /dev/null/x cannot be written to\n      name another: --data DIR\n      $ df -hT" in output
    )
    assert "1 failures" in output
