"""What the cache remembers; what llama.cpp makes of its operations is shown in test_scheduler.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.kv.prefix_cache import CopyCells, Lease, PrefixCache, RemoveCells

ROOM = 1_000


def remember(cache: PrefixCache, tokens: list[int]) -> None:
    lease = cache.acquire(tokens)
    assert lease is not None
    cache.commit(lease, tokens, ROOM)
    cache.release(lease)


def evict(cache: PrefixCache) -> int:
    """The cells that evicting once frees."""
    before = cache.num_cells
    assert cache.evict() == (cache.num_cells < before)
    return before - cache.num_cells


@pytest.mark.parametrize(
    ("tokens", "num_matched"),
    [([1, 2, 3], 3), ([1, 2, 3, 9], 3), ([1, 2], 2), ([1, 2, 5, 6], 4), ([1, 9], 1), ([9], 0), ([], 0)],
)
def test_the_longest_known_beginning_is_found(tokens: list[int], num_matched: int) -> None:
    cache = PrefixCache(4)
    remember(cache, [1, 2, 3])
    remember(cache, [1, 2, 5, 6])
    assert cache.match(tokens) == num_matched


def test_common_beginnings_are_kept_once() -> None:
    cache = PrefixCache(4)
    remember(cache, [1, 2, 3])
    remember(cache, [1, 2, 5, 6])
    assert cache.num_cells == 5
    remember(cache, [1, 2, 3])
    assert cache.num_cells == 5


def test_a_lease_gets_the_cells_of_what_it_begins_with() -> None:
    cache = PrefixCache(4)
    remember(cache, [1, 2, 3])
    cache.operations.clear()
    lease = cache.acquire([1, 2, 9])
    assert lease is not None
    assert lease.num_cached == 2
    [operation] = cache.operations
    assert isinstance(operation, CopyCells)
    assert (operation.target, operation.start, operation.end) == (lease.slot, 0, 2)


def test_what_two_computed_at_once_is_kept_once() -> None:
    cache = PrefixCache(4)
    first, second = cache.acquire([1, 2, 3]), cache.acquire([1, 2, 4])
    assert first is not None
    assert second is not None
    cache.commit(first, [1, 2, 3], ROOM)
    cache.operations.clear()
    cache.commit(second, [1, 2, 4], ROOM)
    assert cache.operations == [RemoveCells(second.slot, 0, 2), CopyCells(first.slot, second.slot, 0, 2)]
    assert cache.num_cells == 4


def test_the_least_recently_used_goes_first() -> None:
    cache = PrefixCache(4)
    for first in (1, 2, 3):
        remember(cache, [first] * 4)
    remember(cache, [1] * 4)
    assert evict(cache) == 4
    assert [cache.match([first] * 4) for first in (1, 2, 3)] == [4, 0, 4]


def test_what_is_leased_stays() -> None:
    cache = PrefixCache(4)
    remember(cache, [1, 2, 3])
    lease = cache.acquire([1, 2, 3])
    assert lease is not None
    assert (cache.num_evictable, evict(cache)) == (0, 0)
    cache.release(lease)
    assert (cache.num_evictable, evict(cache)) == (3, 3)


def test_a_new_lease_evicts_when_every_slot_keeps_a_prefix() -> None:
    cache = PrefixCache(2)
    remember(cache, [1])
    remember(cache, [2])
    assert cache.acquire([3]) is not None
    assert (cache.match([1]), cache.match([2])) == (0, 1)


def test_there_are_no_more_leases_than_slots() -> None:
    cache = PrefixCache(2)
    assert cache.acquire([1]) is not None
    assert cache.acquire([2]) is not None
    assert cache.acquire([3]) is None


@given(data=st.data())
def test_in_any_order_of_use_the_counts_are_right(data: st.DataObject) -> None:
    cache = PrefixCache(data.draw(st.integers(1, 6)))
    leases: list[tuple[Lease, list[int]]] = []
    texts = st.lists(st.integers(1, 2), max_size=8)
    for action in data.draw(st.lists(st.sampled_from(["acquire", "commit", "release", "evict"]), max_size=30)):
        if action == "acquire" and (lease := cache.acquire(tokens := data.draw(texts))):
            assert lease.num_cached == cache.match(tokens)
            leases.append((lease, tokens))
        elif action == "evict":
            num_evictable = cache.num_evictable
            freed = evict(cache)
            assert cache.num_evictable == num_evictable - freed
        elif leases:
            at = data.draw(st.integers(0, len(leases) - 1))
            lease, tokens = leases[at]
            if action == "commit":
                tokens += data.draw(texts)
                cache.commit(lease, tokens, ROOM)
                assert cache.match(tokens) == lease.num_cached == len(tokens)
            else:
                cache.release(lease)
                del leases[at]
        cache.check_integrity([lease for lease, _ in leases])
    for lease, _ in leases:
        cache.release(lease)
    assert cache.num_evictable == cache.num_cells
    while evict(cache):
        pass
    assert (cache.num_cells, cache.num_evictable) == (0, 0)
