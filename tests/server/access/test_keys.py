"""Keys on disk."""

import os
import stat
from pathlib import Path

import pytest

from server.access import keys
from server.access.keys import Role
from server.access.principal import UNRESTRICTED, Rates, principal_of
from server.errors import KeyStoreError
from server.storage.local.keys import KeyFile


def test_a_key_is_found_by_its_text_and_its_text_is_not_kept(tmp_path: Path) -> None:
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


def test_names_are_given_once_and_only_what_is_there_is_revoked(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    key, _ = file.create("ci", Role.READ)
    with pytest.raises(KeyStoreError, match="there is a key named 'ci'"):
        file.create("ci", Role.READ)
    with pytest.raises(KeyStoreError, match="there is no key 'other'"):
        file.revoke("other")
    assert file.revoke(key.id) == key
    assert file.read() == ()


@pytest.mark.parametrize("content", ["", "{", '{"keys": 3}', '{"keys": [{"id": 1}]}', "[]"])
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, content: str) -> None:
    file = KeyFile(tmp_path)
    _, text = file.create("ci", Role.READ)
    file.path.write_text(content)
    for _ in range(2):
        with pytest.raises(KeyStoreError, match="damaged"):
            file.find(text)


def test_a_role_that_there_is_not_lets_nobody_in(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    _, text = file.create("ci", Role.READ)
    file.path.write_text(file.path.read_text().replace('"read"', '"root"'))
    with pytest.raises(KeyStoreError, match="damaged"):
        file.find(text)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_file_that_others_may_read_lets_nobody_in(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    _, text = file.create("ci", Role.READ)
    file.path.chmod(0o640)
    with pytest.raises(KeyStoreError, match="chmod 600"):
        KeyFile(tmp_path).find(text)


def test_every_key_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is found first: how long it takes says nothing."""
    file, compared = KeyFile(tmp_path), []
    texts = [file.create(f"key {i}", Role.READ)[1] for i in range(5)]
    real = keys.hmac.compare_digest
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda a, b: compared.append(a) or real(a, b))
    assert file.find(texts[0]) is not None
    assert len(compared) == 5


def test_who_asks_may_see_what_the_key_says(tmp_path: Path) -> None:
    key, _ = KeyFile(tmp_path).create("ci", Role.WRITE, ["b", "a", "a"])
    principal = principal_of(key)
    assert (principal.name, principal.role, key.collections) == ("ci", Role.WRITE, ("a", "b"))
    assert [principal.may_see(name) for name in ("a", "b", "c")] == [True, True, False]
    assert UNRESTRICTED.may_see("c")
    assert Role.READ < Role.WRITE < Role.ADMIN


def test_a_key_asks_no_more_often_than_it_may(tmp_path: Path) -> None:
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
