"""Foreign files in the data folder, left by file systems, editors, crashes and backups. The server starts all the same,
and deletes none of them (R26)."""

import os
from pathlib import Path

import pytest
from real_server import serving, write_handbook

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

QUESTION = "How long is parental leave?"
LITTER = {
    "lost+found/#1234": b"a lost block",
    ".nfs000000000000": b"",
    ".DS_Store": b"\x00\x00\x00\x01Bud1",
    "index.sqlite3.bak": b"not a database",
    "index.sqlite3-journal.old": b"",
    ".tmpAbC": b"half",
    "core": b"\x7fELF",
    "vectors/0": b"",
    "vectors/notes.txt": b"why is this here?",
    "models/README": b"mine",
    "models/.half.gguf.part": b"GGUF",
    "audit/audit.jsonl.999": b"{",
    "files/nobody": b"?",
    "empty": b"",
}


def test_the_server_starts_with_foreign_files_in_its_data_folder(tmp_path: Path) -> None:
    docs, data = write_handbook(tmp_path / "handbook"), tmp_path / "data"
    with serving(tmp_path, docs) as server:
        before = server.answer(QUESTION)
    for path, content in LITTER.items():
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(content)
    os.mkfifo(data / "pipe")
    (data / "loop").symlink_to(data)
    with serving(tmp_path, docs) as server:
        assert server.answer(QUESTION) == before
        assert server.get("/readyz").status_code == 200
        assert server.stop() == 0
    files = [path for path in LITTER if (data / path).is_file()]
    assert set(LITTER) - set(files) <= {"vectors/0", "files/nobody"}, "what is not ours is left alone"
