"""A model that was taken in is used as it was, or not at all; its hash is computed when something may have changed."""

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


def taken(folder: Path, name: str = "own.gguf", content: bytes | None = None) -> Path:
    with ModelsFolder(folder).receive(name) as incoming:
        incoming.write(BUILTIN.read_bytes() if content is None else content)
        return incoming.keep("a test")


def test_what_was_taken_in_is_known_by_its_hash(tmp_path: Path) -> None:
    path = taken(tmp_path / "models")
    entry = ModelsFolder(path.parent).entries()["own.gguf"]
    assert (entry.sha256, entry.size) == (sha256_of(BUILTIN), BUILTIN.stat().st_size)
    assert resolve_chat("own.gguf", path.parent).path == path
    assert [each.name for each in ModelsFolder(path.parent).files()] == ["own.gguf"]


def test_one_bit_at_any_place_is_noticed(tmp_path: Path) -> None:
    path = taken(tmp_path, content=BUILTIN.read_bytes()[:100_000])
    sound, rng = path.read_bytes(), Random(1)
    for _ in range(200):
        at = rng.randrange(len(sound))
        altered = bytearray(sound)
        altered[at] ^= 1 << rng.randrange(8)
        path.write_bytes(altered)
        with pytest.raises(ModelFileError, match="altered or cut"):
            ModelsFolder(tmp_path).check(path)
    path.write_bytes(sound)
    ModelsFolder(tmp_path).check(path)


def test_an_altered_model_is_not_resolved(tmp_path: Path) -> None:
    path = taken(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="import it again"):
        resolve_chat("own.gguf", tmp_path)


def test_a_file_is_hashed_again_only_when_it_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, hashed = taken(tmp_path), list[Path]()
    original = sha256_of

    def counting(each: Path) -> str:
        hashed.append(each)
        return original(each)

    monkeypatch.setattr(folders, "sha256_of", counting)
    folder = ModelsFolder(tmp_path)
    folder.check(path)
    assert hashed == []
    shutil.copyfile(path, tmp_path / "copy")
    (tmp_path / "copy").replace(path)  # the same content in another file
    folder.check(path)
    folder.check(path)
    assert hashed == [path]


@pytest.mark.parametrize(("days", "is_read"), [(6.9, False), (7.1, True), (-1, True)])
def test_a_file_is_hashed_again_every_week_and_when_the_clock_went_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float, is_read: bool
) -> None:
    path = taken(tmp_path)
    later = time.time() + days * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr(folders, "sha256_of", lambda _: "what the disk made of it")
    if is_read:
        with pytest.raises(ModelFileError, match="altered"):
            ModelsFolder(tmp_path).check(path)
    else:
        ModelsFolder(tmp_path).check(path)


def test_what_was_read_anew_is_fresh_for_a_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, hashed = taken(tmp_path), list[Path]()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    monkeypatch.setattr(folders, "sha256_of", lambda each: hashed.append(each) or sha256_of(each))
    for _ in range(3):
        ModelsFolder(tmp_path).check(path)
    assert hashed == [path]


def test_what_was_put_there_by_hand_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF anything")
    assert resolve_chat("mine.gguf", tmp_path).path == tmp_path / "mine.gguf"


def test_a_transfer_goes_on_where_it_was_left(tmp_path: Path) -> None:
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


def test_two_commands_do_not_write_one_file(tmp_path: Path) -> None:
    with ModelsFolder(tmp_path).receive("own.gguf") as incoming:
        incoming.write(b"x")
        with pytest.raises(ModelFileError, match="another command"), ModelsFolder(tmp_path).receive("own.gguf"):
            pass
        incoming.discard()
    assert not list(tmp_path.glob("*.part"))


def test_a_manifest_that_is_none_is_said(tmp_path: Path) -> None:
    path = taken(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ModelFileError, match="not a manifest"):
        ModelsFolder(tmp_path).check(path)


def test_what_is_removed_is_forgotten(tmp_path: Path) -> None:
    taken(tmp_path)
    ModelsFolder(tmp_path).remove("own.gguf")
    assert ModelsFolder(tmp_path).entries() == {}
    with pytest.raises(ModelFileError):
        ModelsFolder(tmp_path).remove("own.gguf")
