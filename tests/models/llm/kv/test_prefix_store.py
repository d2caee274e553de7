"""Prefixes on disk: matching, eviction, and damaged files."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.llm.kv.prefix_store import PrefixStore

MODEL, OTHER = bytes(range(32)), bytes(32)
STATE = random.Random(1).randbytes(5000)
PROMPT = list(range(100, 200))
MAX_BYTES = 1 << 20


def open_store(folder: Path, model: bytes = MODEL, max_bytes: int = MAX_BYTES) -> PrefixStore:
    return PrefixStore(folder / "prefixes", model, max_bytes)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "prefixes").glob("*.prefix"))


def read_match(store: PrefixStore, tokens: list[int]) -> tuple[bytes | None, int]:
    """Return the state of the best match, and how many tokens match."""
    prefix, size = store.match(tokens)
    return (None if prefix is None else store.read(prefix)), size


def test_a_stored_prefix_is_matched_in_the_next_run(tmp_path: Path) -> None:
    assert open_store(tmp_path).write(PROMPT, STATE)
    again = open_store(tmp_path)
    assert read_match(again, [*PROMPT, 7]) == (STATE, 100)
    assert read_match(again, [*PROMPT[:60], 7, 8]) == (STATE, 60), "as far as they agree"
    assert read_match(again, [7, *PROMPT]) == (None, 0)


def test_the_last_token_is_never_matched(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write(PROMPT, STATE)
    assert read_match(store, PROMPT) == (STATE, 99)


def test_a_whole_match_needs_a_whole_prefix(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write(PROMPT[:50], b"short", whole=True)
    store.write(PROMPT, STATE, whole=True)
    prefix, size = store.match([*PROMPT[:70], 7], whole=True)
    assert prefix is not None
    assert (store.read(prefix), size) == (b"short", 50)
    assert store.match([*PROMPT[:40], 7], whole=True) == (None, 0)
    assert not store.is_covered(PROMPT[:40], whole=True)
    assert store.is_covered(PROMPT[:50], whole=True)


def test_a_longer_prefix_replaces_those_it_contains(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for size in (20, 60, 100):
        store.write(PROMPT[:size], STATE)
    store.write([*PROMPT[:30], 7], b"another branch")
    assert len(files(tmp_path)) == len(store) == 2
    assert store.is_covered(PROMPT[:20])
    assert not store.is_covered([*PROMPT, 1])


def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    open_store(tmp_path).write(PROMPT, STATE)
    assert [path.stat().st_mode & 0o777 for path in files(tmp_path)] == [0o600]
    assert (tmp_path / "prefixes").stat().st_mode & 0o777 == 0o700


def test_another_model_s_prefixes_are_neither_used_nor_deleted(tmp_path: Path) -> None:
    open_store(tmp_path, OTHER).write(PROMPT, STATE)
    store = open_store(tmp_path)
    assert read_match(store, [*PROMPT, 7]) == (None, 0)
    store.write(PROMPT, b"mine")
    assert read_match(open_store(tmp_path, OTHER), [*PROMPT, 7]) == (STATE, 100)
    assert read_match(open_store(tmp_path), [*PROMPT, 7]) == (b"mine", 100)


def test_the_least_recently_used_file_of_any_model_is_deleted_for_room(tmp_path: Path) -> None:
    prompts = [[number, *PROMPT] for number in range(4)]
    open_store(tmp_path, OTHER).write(PROMPT, STATE)
    store = open_store(tmp_path, max_bytes=4 * 6000)
    for age, prompt in enumerate(prompts[:3]):
        store.write(prompt, STATE)
        for path in files(tmp_path)[:]:
            os.utime(path, (path.stat().st_mtime - 100 + age,) * 2)
    assert read_match(store, [*prompts[0], 7])[0] == STATE  # now the most recently used
    assert store.write(prompts[3], STATE)
    assert open_store(tmp_path, OTHER).match([*PROMPT, 7]) == (None, 0)
    assert store.write([9, *PROMPT], STATE)
    assert [read_match(store, [*prompt, 7])[0] is not None for prompt in prompts] == [True, False, True, True]
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 4 * 6000
    assert not store.write(PROMPT, bytes(4 * 6000)), "larger than max_bytes"
    assert len(store) == 4, "and nothing was deleted for it"


@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "empty", "gone"])
def test_a_damaged_file_is_never_used(tmp_path: Path, damage: str) -> None:
    rng = random.Random(damage)
    for _ in range(60):
        folder = tmp_path / str(rng.random())
        open_store(folder).write(PROMPT, STATE)
        (path,) = files(folder)
        content = bytearray(path.read_bytes())
        opened_before = open_store(folder)  # has read the head before the damage
        if damage == "flip":
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif damage == "cut":
            del content[rng.randrange(len(content)) :]
        elif damage == "longer":
            content += b"x"
        path.write_bytes(b"" if damage == "empty" else content)
        if damage == "gone":
            path.unlink()
        is_head = content[:18] != path.read_bytes()[:18] if path.exists() else True
        assert read_match(open_store(folder), [*PROMPT, 7]) in ((None, 0), (None, 100)), is_head
        state, _ = read_match(opened_before, [*PROMPT, 7])
        assert state in (None, STATE), "the state may still be undamaged; it is never another"
        assert read_match(opened_before, [*PROMPT, 7]) == ((state, 100) if state else (None, 0))


def test_write_returns_false_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)

    def raise_no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("models.llm.kv.prefix_store.tempfile.mkstemp", raise_no_space)
    assert not store.write(PROMPT, STATE)
    assert len(store) == 0
    monkeypatch.undo()
    assert store.write(PROMPT, STATE)


def test_old_partial_files_are_deleted(tmp_path: Path) -> None:
    open_store(tmp_path)
    old, new = tmp_path / "prefixes" / "a.part", tmp_path / "prefixes" / "b.part"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    open_store(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


@settings(max_examples=50, deadline=None)
@given(
    stored=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=8),
    prompt=st.lists(st.integers(0, 2), min_size=1, max_size=8),
)
def test_match_finds_the_longest_common_beginning(
    tmp_path_factory: pytest.TempPathFactory, stored: list[list[int]], prompt: list[int]
) -> None:
    store = open_store(tmp_path_factory.mktemp("store"))
    for tokens in stored:
        store.write(tokens, bytes(tokens))

    def common_length(tokens: list[int]) -> int:
        return next((i for i, (a, b) in enumerate(zip(tokens, prompt[:-1], strict=False)) if a != b), 0) or (
            min(len(tokens), len(prompt) - 1) if tokens[: len(prompt) - 1] == prompt[:-1][: len(tokens)] else 0
        )

    assert store.match(prompt)[1] == max(map(common_length, stored), default=0)
