"""The contract of a key store."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from server.access.keys import PREFIX, Key, KeyStore, Role
from server.errors import KeyStoreError
from server.storage.local.keys import KeyFile


class MemoryKeyStore(KeyStore):
    def __init__(self) -> None:
        self._keys: Sequence[Key] = ()

    def read(self) -> Sequence[Key]:
        return self._keys

    def write(self, keys: Sequence[Key]) -> None:
        self._keys = keys


STORES: list[Callable[[Path], KeyStore]] = [KeyFile, lambda _: MemoryKeyStore()]


@pytest.fixture(params=STORES, ids=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStore:
    store: KeyStore = request.param(tmp_path)
    return store


def test_a_key_is_found_by_its_text_until_it_is_revoked(store: KeyStore) -> None:
    assert list(store.read()) == []
    key, text = store.create("ci", Role.WRITE, ["b", "a", "a"], rate=60)
    other, _ = store.create("other", Role.ADMIN)
    assert text.startswith(PREFIX) and text not in repr(store.read())
    assert (key.rank, key.collections, key.rate) == (Role.WRITE, ("a", "b"), 60)
    assert list(store.read()) == [key, other]
    assert store.find(text) == key
    assert store.find(text + "x") is None and store.find("") is None
    assert store.revoke("ci") == key
    assert store.find(text) is None
    assert store.revoke(other.id) == other
    assert list(store.read()) == []


def test_an_expired_key_is_not_found(store: KeyStore) -> None:
    _, text = store.create("ci", Role.READ, expires_at=int(time.time()) - 1)
    assert store.find(text) is None


def test_names_are_unique_and_must_exist(store: KeyStore) -> None:
    store.create("ci", Role.READ)
    with pytest.raises(KeyStoreError, match="there is a key named 'ci'"):
        store.create("ci", Role.READ)
    with pytest.raises(KeyStoreError, match="there is no key 'other'"):
        store.revoke("other")
