"""Imported models: an altered file is refused, and a file is hashed again when it may have changed."""

import shutil
import time
from pathlib import Path
from random import Random

import pytest

from models import folder as folders
from models.catalog import resolve_chat
from models.errors import ModelFileError
from models.folder import MANIFEST, ModelsFolder, sha256_of

BUILTIN = resolve_chat("reader-v1").path


def import_model(folder: Path, name: str = "own.gguf", content: bytes | None = None) -> Path:
    with ModelsFolder(folder).receive(name) as incoming:
        incoming.write(BUILTIN.read_bytes() if content is None else content)
        return incoming.keep("a test")


def test_an_imported_file_is_in_the_manifest_with_its_hash(tmp_path: Path) -> None:
    path = import_model(tmp_path / "models")
    entry = ModelsFolder(path.parent).entries()["own.gguf"]
    assert (entry.sha256, entry.size) == (sha256_of(BUILTIN), BUILTIN.stat().st_size)
    assert resolve_chat("own.gguf", path.parent).path == path
    assert [each.name for each in ModelsFolder(path.parent).files()] == ["own.gguf"]


def test_check_finds_any_flipped_bit(tmp_path: Path) -> None:
    path = import_model(tmp_path, content=BUILTIN.read_bytes()[:100_000])
    original, rng = path.read_bytes(), Random(1)
    for _ in range(200):
        position = rng.randrange(len(original))
        altered = bytearray(original)
        altered[position] ^= 1 << rng.randrange(8)
        path.write_bytes(altered)
        with pytest.raises(ModelFileError, match="altered or cut"):
            ModelsFolder(tmp_path).check(path)
    path.write_bytes(original)
    ModelsFolder(tmp_path).check(path)


def test_resolve_chat_refuses_an_altered_model(tmp_path: Path) -> None:
    path = import_model(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="import it again"):
        resolve_chat("own.gguf", tmp_path)


def test_check_hashes_a_file_again_only_when_its_identity_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hashed_paths = import_model(tmp_path), list[Path]()
    original = sha256_of

    def counting(each: Path) -> str:
        hashed_paths.append(each)
        return original(each)

    monkeypatch.setattr(folders, "sha256_of", counting)
    folder = ModelsFolder(tmp_path)
    folder.check(path)
    assert hashed_paths == []
    shutil.copyfile(path, tmp_path / "copy")
    (tmp_path / "copy").replace(path)  # the same content in another file
    folder.check(path)
    folder.check(path)
    assert hashed_paths == [path]


@pytest.mark.parametrize(("days", "is_hashed"), [(6.9, False), (7.1, True), (-1, True)])
def test_check_hashes_a_file_again_after_a_week_and_when_the_clock_went_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float, is_hashed: bool
) -> None:
    path = import_model(tmp_path)
    later = time.time() + days * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr(folders, "sha256_of", lambda _: "another hash")
    if is_hashed:
        with pytest.raises(ModelFileError, match="altered"):
            ModelsFolder(tmp_path).check(path)
    else:
        ModelsFolder(tmp_path).check(path)


def test_a_verified_file_is_fresh_for_a_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, hashed_paths = import_model(tmp_path), list[Path]()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    monkeypatch.setattr(folders, "sha256_of", lambda each: hashed_paths.append(each) or sha256_of(each))
    for _ in range(3):
        ModelsFolder(tmp_path).check(path)
    assert hashed_paths == [path]


def test_a_file_copied_by_hand_is_used_without_verification(tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF anything")
    assert resolve_chat("mine.gguf", tmp_path).path == tmp_path / "mine.gguf"


def test_receive_resumes_a_partial_file(tmp_path: Path) -> None:
    content = BUILTIN.read_bytes()
    with ModelsFolder(tmp_path).receive("own.gguf") as incoming:
        incoming.write(content[:1_500_000])
    assert ModelsFolder(tmp_path).files() == []
    with ModelsFolder(tmp_path).receive("own.gguf") as incoming:
        assert incoming.size == 1_500_000
        incoming.write(content[incoming.size :])
        assert incoming.sha256 == sha256_of(BUILTIN)
        incoming.keep("a test")
    assert [path.name for path in sorted(tmp_path.iterdir()) if not path.name.startswith(".")] == [
        MANIFEST,
        "own.gguf",
    ]


def test_receive_refuses_a_file_that_another_command_writes(tmp_path: Path) -> None:
    with ModelsFolder(tmp_path).receive("own.gguf") as incoming:
        incoming.write(b"x")
        with pytest.raises(ModelFileError, match="another command"), ModelsFolder(tmp_path).receive("own.gguf"):
            pass
        incoming.discard()
    assert not list(tmp_path.glob("*.part"))


def test_check_refuses_a_damaged_manifest(tmp_path: Path) -> None:
    path = import_model(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ModelFileError, match="not a manifest"):
        ModelsFolder(tmp_path).check(path)


def test_remove_deletes_the_file_and_its_entry(tmp_path: Path) -> None:
    import_model(tmp_path)
    ModelsFolder(tmp_path).remove("own.gguf")
    assert ModelsFolder(tmp_path).entries() == {}
    with pytest.raises(ModelFileError):
        ModelsFolder(tmp_path).remove("own.gguf")
