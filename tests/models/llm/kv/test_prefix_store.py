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
ROOM = 1 << 20


def opened(folder: Path, model: bytes = MODEL, max_bytes: int = ROOM) -> PrefixStore:
    return PrefixStore(folder / "prefixes", model, max_bytes)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "prefixes").glob("*.prefix"))


def states(store: PrefixStore, tokens: list[int]) -> tuple[bytes | None, int]:
    saved, size = store.match(tokens)
    return (None if saved is None else store.read(saved)), size


def test_a_prefix_comes_back_in_the_next_run(tmp_path: Path) -> None:
    assert opened(tmp_path).write(PROMPT, STATE)
    again = opened(tmp_path)
    assert states(again, [*PROMPT, 7]) == (STATE, 100)
    assert states(again, [*PROMPT[:60], 7, 8]) == (STATE, 60), "as far as they agree"
    assert states(again, [7, *PROMPT]) == (None, 0)


def test_the_last_token_is_left_to_compute(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write(PROMPT, STATE)
    assert states(store, PROMPT) == (STATE, 99)


def test_a_state_that_is_only_good_whole_is_found_whole(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write(PROMPT[:50], b"short", whole=True)
    store.write(PROMPT, STATE, whole=True)
    saved, size = store.match([*PROMPT[:70], 7], whole=True)
    assert saved is not None
    assert (store.read(saved), size) == (b"short", 50)
    assert store.match([*PROMPT[:40], 7], whole=True) == (None, 0)
    assert not store.is_covered(PROMPT[:40], whole=True)
    assert store.is_covered(PROMPT[:50], whole=True)


def test_a_longer_prefix_takes_the_place_of_those_it_contains(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for size in (20, 60, 100):
        store.write(PROMPT[:size], STATE)
    store.write([*PROMPT[:30], 7], b"another branch")
    assert len(files(tmp_path)) == len(store) == 2
    assert store.is_covered(PROMPT[:20])
    assert not store.is_covered([*PROMPT, 1])


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    opened(tmp_path).write(PROMPT, STATE)
    assert [path.stat().st_mode & 0o777 for path in files(tmp_path)] == [0o600]
    assert (tmp_path / "prefixes").stat().st_mode & 0o777 == 0o700


def test_what_another_model_computed_is_neither_used_nor_touched(tmp_path: Path) -> None:
    opened(tmp_path, OTHER).write(PROMPT, STATE)
    store = opened(tmp_path)
    assert states(store, [*PROMPT, 7]) == (None, 0)
    store.write(PROMPT, b"mine")
    assert states(opened(tmp_path, OTHER), [*PROMPT, 7]) == (STATE, 100)
    assert states(opened(tmp_path), [*PROMPT, 7]) == (b"mine", 100)


def test_the_least_recently_used_goes_for_the_newest_whosever_it_is(tmp_path: Path) -> None:
    prompts = [[number, *PROMPT] for number in range(4)]
    opened(tmp_path, OTHER).write(PROMPT, STATE)
    store = opened(tmp_path, max_bytes=4 * 6000)
    for age, prompt in enumerate(prompts[:3]):
        store.write(prompt, STATE)
        for path in files(tmp_path)[:]:
            os.utime(path, (path.stat().st_mtime - 100 + age,) * 2)
    assert states(store, [*prompts[0], 7])[0] == STATE  # now the most recently used
    assert store.write(prompts[3], STATE)
    assert opened(tmp_path, OTHER).match([*PROMPT, 7]) == (None, 0)
    assert store.write([9, *PROMPT], STATE)
    assert [states(store, [*prompt, 7])[0] is not None for prompt in prompts] == [True, False, True, True]
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 4 * 6000
    assert not store.write(PROMPT, bytes(4 * 6000)), "larger than all the room"
    assert len(store) == 4, "and nothing went for it"


@pytest.mark.parametrize("mishap", ["flip", "cut", "longer", "empty", "gone"])
def test_a_damaged_file_is_never_used(tmp_path: Path, mishap: str) -> None:
    rng = random.Random(mishap)
    for _ in range(60):
        folder = tmp_path / str(rng.random())
        opened(folder).write(PROMPT, STATE)
        (path,) = files(folder)
        content = bytearray(path.read_bytes())
        early = opened(folder)  # has read the head while it was whole
        if mishap == "flip":
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif mishap == "cut":
            del content[rng.randrange(len(content)) :]
        elif mishap == "longer":
            content += b"x"
        path.write_bytes(b"" if mishap == "empty" else content)
        if mishap == "gone":
            path.unlink()
        is_head = content[:18] != path.read_bytes()[:18] if path.exists() else True
        assert states(opened(folder), [*PROMPT, 7]) in ((None, 0), (None, 100)), is_head
        found, _ = states(early, [*PROMPT, 7])
        assert found in (None, STATE), "what was read before the damage may still be right; never anything else"
        assert states(early, [*PROMPT, 7]) == ((found, 100) if found else (None, 0))


def test_a_full_disk_costs_a_prefix_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("models.llm.kv.prefix_store.tempfile.mkstemp", full)
    assert not store.write(PROMPT, STATE)
    assert len(store) == 0
    monkeypatch.undo()
    assert store.write(PROMPT, STATE)


def test_what_a_killed_writer_left_goes_after_a_while(tmp_path: Path) -> None:
    opened(tmp_path)
    old, new = tmp_path / "prefixes" / "a.part", tmp_path / "prefixes" / "b.part"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    opened(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


@settings(max_examples=50, deadline=None)
@given(
    kept=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=8),
    asked=st.lists(st.integers(0, 2), min_size=1, max_size=8),
)
def test_the_longest_agreement_is_found(
    tmp_path_factory: pytest.TempPathFactory, kept: list[list[int]], asked: list[int]
) -> None:
    store = opened(tmp_path_factory.mktemp("store"))
    for tokens in kept:
        store.write(tokens, bytes(tokens))

    def agreement(tokens: list[int]) -> int:
        return next((i for i, (a, b) in enumerate(zip(tokens, asked[:-1], strict=False)) if a != b), 0) or (
            min(len(tokens), len(asked) - 1) if tokens[: len(asked) - 1] == asked[:-1][: len(tokens)] else 0
        )

    assert store.match(asked)[1] == max(map(agreement, kept), default=0)
