"""The prefix cache's counts and operations; test_scheduler.py applies the operations to a simulated llama.cpp."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.kv.prefix_cache import CopyCells, Lease, PrefixCache, RemoveCells

NUM_FREE = 1_000


def commit_prefix(cache: PrefixCache, tokens: list[int]) -> None:
    lease = cache.acquire(tokens)
    assert lease is not None
    cache.commit(lease, tokens, NUM_FREE)
    cache.release(lease)


def evict(cache: PrefixCache) -> int:
    """Evict once; return the number of cells freed."""
    before = cache.num_cells
    assert cache.evict() == (cache.num_cells < before)
    return before - cache.num_cells


@pytest.mark.parametrize(
    ("tokens", "num_matched"),
    [([1, 2, 3], 3), ([1, 2, 3, 9], 3), ([1, 2], 2), ([1, 2, 5, 6], 4), ([1, 9], 1), ([9], 0), ([], 0)],
)
def test_match_returns_the_length_of_the_longest_cached_prefix(tokens: list[int], num_matched: int) -> None:
    cache = PrefixCache(4)
    commit_prefix(cache, [1, 2, 3])
    commit_prefix(cache, [1, 2, 5, 6])
    assert cache.match(tokens) == num_matched


def test_common_prefixes_are_counted_once() -> None:
    cache = PrefixCache(4)
    commit_prefix(cache, [1, 2, 3])
    commit_prefix(cache, [1, 2, 5, 6])
    assert cache.num_cells == 5
    commit_prefix(cache, [1, 2, 3])
    assert cache.num_cells == 5


def test_a_lease_shares_the_cells_of_its_cached_prefix() -> None:
    cache = PrefixCache(4)
    commit_prefix(cache, [1, 2, 3])
    cache.operations.clear()
    lease = cache.acquire([1, 2, 9])
    assert lease is not None
    assert lease.num_cached == 2
    [operation] = cache.operations
    assert isinstance(operation, CopyCells)
    assert (operation.target, operation.start, operation.end) == (lease.slot, 0, 2)


def test_a_prefix_that_two_leases_computed_is_kept_once() -> None:
    cache = PrefixCache(4)
    first, second = cache.acquire([1, 2, 3]), cache.acquire([1, 2, 4])
    assert first is not None
    assert second is not None
    cache.commit(first, [1, 2, 3], NUM_FREE)
    cache.operations.clear()
    cache.commit(second, [1, 2, 4], NUM_FREE)
    assert cache.operations == [RemoveCells(second.slot, 0, 2), CopyCells(first.slot, second.slot, 0, 2)]
    assert cache.num_cells == 4


def test_the_least_recently_used_prefix_is_evicted_first() -> None:
    cache = PrefixCache(4)
    for first in (1, 2, 3):
        commit_prefix(cache, [first] * 4)
    commit_prefix(cache, [1] * 4)
    assert evict(cache) == 4
    assert [cache.match([first] * 4) for first in (1, 2, 3)] == [4, 0, 4]


def test_a_leased_prefix_is_not_evicted() -> None:
    cache = PrefixCache(4)
    commit_prefix(cache, [1, 2, 3])
    lease = cache.acquire([1, 2, 3])
    assert lease is not None
    assert (cache.num_evictable, evict(cache)) == (0, 0)
    cache.release(lease)
    assert (cache.num_evictable, evict(cache)) == (3, 3)


def test_acquiring_evicts_when_every_slot_holds_a_prefix() -> None:
    cache = PrefixCache(2)
    commit_prefix(cache, [1])
    commit_prefix(cache, [2])
    assert cache.acquire([3]) is not None
    assert (cache.match([1]), cache.match([2])) == (0, 1)


def test_acquire_returns_none_when_every_slot_is_leased() -> None:
    cache = PrefixCache(2)
    assert cache.acquire([1]) is not None
    assert cache.acquire([2]) is not None
    assert cache.acquire([3]) is None


@given(data=st.data())
def test_counts_are_right_after_any_order_of_operations(data: st.DataObject) -> None:
    cache = PrefixCache(data.draw(st.integers(1, 6)))
    leases: list[tuple[Lease, list[int]]] = []
    token_lists = st.lists(st.integers(1, 2), max_size=8)
    for action in data.draw(st.lists(st.sampled_from(["acquire", "commit", "release", "evict"]), max_size=30)):
        if action == "acquire" and (lease := cache.acquire(tokens := data.draw(token_lists))):
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
                tokens += data.draw(token_lists)
                cache.commit(lease, tokens, NUM_FREE)
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
