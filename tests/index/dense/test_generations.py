import errno
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from index.dense.base_index import BaseBuilder
from index.dense.codes import Kind
from index.dense.generations import Generation, Header, newest_header, read_newest, write_generation
from index.storage.vectors import ChunkVectors

_HEADER = Header(database="db", fingerprint="space", dimension=8, count=2, seq=5)
_OLD = Generation(_HEADER, memoryview(b"the generation before"), None)
_NEW = Generation(Header("db", "space", 8, 3, 9), memoryview(bytes(range(256)) * 2), None)


def _newest(folder: Path) -> Generation | None:
    return read_newest(folder, "db", "space", 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two generations."""
    folder = tmp_path / "vectors"
    write_generation(folder, _OLD.header, [bytes(_OLD.payload)])
    write_generation(folder, _NEW.header, [b"", bytes(_NEW.payload[:7]), bytes(_NEW.payload[7:])])
    return folder


def test_the_newest_generation_is_read_as_it_was_written(folder: Path) -> None:
    assert _newest(folder) == _NEW


def test_reading_an_empty_folder_returns_none(tmp_path: Path) -> None:
    assert _newest(tmp_path / "missing") is None
    assert _newest(tmp_path) is None


def test_an_empty_payload_is_read_back(tmp_path: Path) -> None:
    write_generation(tmp_path, _HEADER, [b""])
    assert _newest(tmp_path) == Generation(_HEADER, memoryview(b""), None)


def test_two_generations_are_kept(folder: Path) -> None:
    for seq in range(10, 20):
        written = write_generation(folder, Header("db", "space", 8, 3, seq), [b"x"])
        assert len(list(folder.iterdir())) == 2
        assert written in folder.iterdir()
    assert _newest(folder) == Generation(Header("db", "space", 8, 3, 19), memoryview(b"x"), None)


def test_a_generation_with_any_bit_flipped_is_not_used(folder: Path) -> None:
    newest = max(folder.iterdir())
    content = newest.read_bytes()
    for at in range(len(content)):
        newest.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        assert _newest(folder) == _OLD, f"byte {at} of {len(content)}"
    newest.write_bytes(content)
    assert _newest(folder) == _NEW


def test_a_truncated_or_extended_generation_is_not_used(folder: Path) -> None:
    newest = max(folder.iterdir())
    content = newest.read_bytes()
    for size in range(len(content)):
        newest.write_bytes(content[:size])
        assert _newest(folder) == _OLD, f"{size} bytes of {len(content)}"
    newest.write_bytes(content + b"\0")
    assert _newest(folder) == _OLD


def test_without_an_intact_generation_none_is_read(folder: Path) -> None:
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    assert _newest(folder) is None


def test_generations_of_other_vector_spaces_are_ignored(folder: Path) -> None:
    write_generation(folder, Header("db", "other", 8, 1, 20), [b"x"])
    assert _newest(folder) == _NEW
    write_generation(folder, Header("db", "space", 16, 1, 30), [b"y"])
    assert _newest(folder) is None  # the two that are kept are of other spaces
    assert read_newest(folder, "db", "space", 16) == Generation(
        Header("db", "space", 16, 1, 30), memoryview(b"y"), None
    )


def test_generations_of_another_database_are_ignored(folder: Path) -> None:
    write_generation(folder, Header("another", "space", 8, 1, 20), [b"x"])
    assert _newest(folder) == _NEW


def test_other_files_in_the_folder_are_left_alone(folder: Path) -> None:
    litter = [
        "00000009.tmp",
        "notes.txt",
        "x.vectors",
        "-1.vectors",
        "².vectors",
        "7.vectors",
        ".vectors",
        "00000003.vectors.bak",
    ]
    for name in litter:
        (folder / name).write_bytes(b"litter")
    (folder / "00000099.vectors").mkdir()
    assert _newest(folder) == _NEW
    (folder / "00000099.vectors").rmdir()
    write_generation(folder, Header("db", "space", 8, 1, 30), [b"x"])
    assert _newest(folder) == Generation(Header("db", "space", 8, 1, 30), memoryview(b"x"), None)
    assert {file.name for file in folder.iterdir()} >= set(litter)


def test_a_leftover_of_a_crash_does_not_stop_the_next_generation(folder: Path) -> None:
    (folder / "00000003.tmp").write_bytes(b"half of a gener")
    write_generation(folder, Header("db", "space", 8, 1, 30), [b"x"])
    assert _newest(folder) == Generation(Header("db", "space", 8, 1, 30), memoryview(b"x"), None)
    assert not list(folder.glob("*.tmp"))


def test_a_full_disk_leaves_the_newest_generation_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = set(folder.iterdir())
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_generation(folder, Header("db", "space", 8, 1, 30), [b"x"])
    assert set(folder.iterdir()) == before
    assert _newest(folder) == _NEW


def test_a_generation_that_does_not_read_back_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a disk that reports success without having written."""
    sync = os.fsync

    def lose(descriptor: int) -> None:
        os.ftruncate(descriptor, 10)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", lose)
    with pytest.raises(OSError, match="does not read back"):
        write_generation(folder, Header("db", "space", 8, 1, 30), [b"x"])
    assert _newest(folder) == _NEW


@pytest.mark.parametrize("kind", ["exact", "scalar", "binary"])
def test_damage_anywhere_in_an_index_never_reaches_faiss(tmp_path: Path, kind: Kind) -> None:
    """FAISS loads flipped bits silently and can crash on others."""
    random = np.random.default_rng(5)
    ids = np.arange(1, 201)
    vectors = random.normal(size=(200, 32)).astype(np.float32)
    builder = BaseBuilder(32, 200, vectors, kind)
    builder.add(ChunkVectors(ids, ids % 2, vectors))
    write_generation(tmp_path, _OLD.header, [bytes(_OLD.payload)])
    with builder:
        newest = write_generation(tmp_path, _NEW.header, builder.payload(), builder.stored_vectors())
    content = newest.read_bytes()
    regions = np.linspace(0, len(content), 11, dtype=int)  # magic, header, ids, codes, digest: each gets its share
    for start, stop in pairwise(regions.tolist()):
        for at in random.integers(start, stop, 20).tolist():
            broken = bytearray(content)
            broken[at] ^= 1 << int(random.integers(8))
            newest.write_bytes(broken)
            assert _newest(tmp_path) == _OLD, f"byte {at} of {len(content)}"
            newest.write_bytes(content[:at])
            assert _newest(tmp_path) == _OLD, f"{at} bytes of {len(content)}"
    newest.write_bytes(content)
    generation = _newest(tmp_path)
    assert generation is not None
    assert generation.payload == b"".join(builder.payload())
    assert (generation.stored_vectors is None) == (kind == "exact")
    if generation.stored_vectors is not None:
        with generation.stored_vectors as stored:
            rotated = stored.fetch(np.array([199, 0]), 32)
            expected = vectors[[199, 0]] / np.linalg.norm(vectors[[199, 0]], axis=1, keepdims=True)
            assert np.allclose(rotated, expected, atol=1e-3)
            newest.write_bytes(content[:-40_000])
            assert not stored.fetch(np.array([199]), 32).any(), "what was cut while it was open is zeros, not a crash"


def test_the_header_of_the_newest_generation_is_read(folder: Path) -> None:
    assert newest_header(folder, "db", "space", 8) == _NEW.header
    assert newest_header(folder, "db", "other", 8) is None
    max(folder.iterdir()).write_bytes(b"CLOISTER-VECTORS-3\n\0\0\0\x04nope")
    assert newest_header(folder, "db", "space", 8) == _OLD.header
    assert newest_header(folder / "missing", "db", "space", 8) is None
