"""The file of API keys, principals and rate limits."""

import os
import stat
from pathlib import Path

import pytest

from server.access import keys
from server.access.keys import Role
from server.access.principal import UNRESTRICTED, Rates, principal_of
from server.errors import KeyStoreError
from server.storage.local.keys import KeyFile


def test_a_key_is_found_by_its_text_and_only_its_hash_is_stored(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    assert file.read() == ()
    key, text = file.create("ci", Role.READ, ["handbook"], rate=60)
    other, other_text = file.create("ops", Role.ADMIN)
    assert len(text) >= 40
    again = KeyFile(tmp_path)
    assert (again.find(text), again.find(other_text), again.find("clst_nonsense"), again.find("")) == (
        *(key, other, None, None),
    )
    written = file.path.read_text()
    assert text not in written
    assert text.removeprefix("clst_") not in written
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_running_server_sees_what_another_process_writes(tmp_path: Path) -> None:
    running, command = KeyFile(tmp_path), KeyFile(tmp_path)
    _, text = command.create("ci", Role.READ)
    assert running.find(text) is not None
    assert command.revoke("ci").name == "ci"
    assert running.find(text) is None
    file = tmp_path / "keys.json"
    file.unlink()
    assert running.read() == ()


def test_a_key_ends_when_it_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = KeyFile(tmp_path)
    key, text = file.create("ci", Role.READ, expires_at=1_000)
    monkeypatch.setattr(keys.time, "time", lambda: 999.9)
    assert file.find(text) == key
    monkeypatch.setattr(keys.time, "time", lambda: 1_000.0)
    assert file.find(text) is None


def test_names_are_unique_and_revoking_an_unknown_key_fails(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    key, _ = file.create("ci", Role.READ)
    with pytest.raises(KeyStoreError, match="there is a key named 'ci'"):
        file.create("ci", Role.READ)
    with pytest.raises(KeyStoreError, match="there is no key 'other'"):
        file.revoke("other")
    assert file.revoke(key.id) == key
    assert file.read() == ()


@pytest.mark.parametrize("content", ["", "{", '{"keys": 3}', '{"keys": [{"id": 1}]}', "[]"])
def test_a_damaged_key_file_is_an_error(tmp_path: Path, content: str) -> None:
    file = KeyFile(tmp_path)
    _, text = file.create("ci", Role.READ)
    file.path.write_text(content)
    for _ in range(2):
        with pytest.raises(KeyStoreError, match="damaged"):
            file.find(text)


def test_an_unknown_role_is_an_error(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    _, text = file.create("ci", Role.READ)
    file.path.write_text(file.path.read_text().replace('"read"', '"root"'))
    with pytest.raises(KeyStoreError, match="damaged"):
        file.find(text)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_key_file_that_other_users_can_read_is_an_error(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    _, text = file.create("ci", Role.READ)
    file.path.chmod(0o640)
    with pytest.raises(KeyStoreError, match="chmod 600"):
        KeyFile(tmp_path).find(text)


def test_find_compares_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a search does not depend on where the key is."""
    file, compared = KeyFile(tmp_path), []
    texts = [file.create(f"key {i}", Role.READ)[1] for i in range(5)]
    real = keys.hmac.compare_digest
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda a, b: compared.append(a) or real(a, b))
    assert file.find(texts[0]) is not None
    assert len(compared) == 5


def test_a_principal_sees_the_collections_of_its_key(tmp_path: Path) -> None:
    key, _ = KeyFile(tmp_path).create("ci", Role.WRITE, ["b", "a", "a"])
    principal = principal_of(key)
    assert (principal.name, principal.role, key.collections) == ("ci", Role.WRITE, ("a", "b"))
    assert [principal.may_see(name) for name in ("a", "b", "c")] == [True, True, False]
    assert UNRESTRICTED.may_see("c")
    assert Role.READ < Role.WRITE < Role.ADMIN


def test_rates_allow_as_many_requests_as_the_key(tmp_path: Path) -> None:
    now = 0.0
    rates = Rates(lambda: now)
    key, _ = KeyFile(tmp_path).create("ci", Role.READ, rate=60)
    assert [rates.wait_s(key) for _ in range(60)] == [0.0] * 60
    assert rates.wait_s(key) == pytest.approx(1.0)
    now = 0.5
    assert rates.wait_s(key) == pytest.approx(0.5)
    now = 2.0
    assert [rates.wait_s(key) == 0 for _ in range(3)] == [True, True, False]
    now = 1e6
    assert [rates.wait_s(key) == 0 for _ in range(61)] == [True] * 60 + [False], "no more is saved than a minute's"
