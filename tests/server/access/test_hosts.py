"""Host headers that name the server, and those that do not."""

import pytest

from server.access.hosts import Hosts, host_of

OWN = [
    "localhost",
    "localhost:8000",
    "LOCALHOST",
    "LocalHost:1",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.8.9.10:8000",
    "[::1]",
    "[::1]:8000",
    "[0:0:0:0:0:0:0:1]:8000",
    "library",
    "Library:8000",
    "docs.example.internal:443",
]
FOREIGN = [
    "",
    ":8000",
    " ",
    "localhost.evil.com",
    "localhost.evil.com:8000",
    "127.0.0.1.nip.io",
    "127.0.0.1.evil.com:8000",
    "evil.com",
    "evil.com:8000",
    "evil.com#localhost",
    "localhost#evil.com",
    "localhost/evil.com",
    "user@localhost",
    "evil.com@localhost",
    "localhost@evil.com",
    "localhost.",
    "localhost.:8000",
    "localhost:",
    "localhost:port",
    "localhost:123456",
    "localhost:8000:9000",
    "localhost, evil.com",
    "localhost evil.com",
    "localhost\tevil.com",
    "[::1",
    "::1",
    "[localhost]",
    "[127.0.0.1]x",
    "[::ffff:9.9.9.9]",
    "192.168.1.7",
    "10.0.0.1:8000",
    "0.0.0.0:8000",
    "2130706433",
    "0x7f000001",
    "017700000001",
    "http://localhost",
    "libraryx",
    "x.library",
    "docs.example.internal.evil.com",
    "%6cocalhost",
    "lоcalhost",
    "-localhost",
    "a" * 300,
]


@pytest.mark.parametrize("authority", OWN)
def test_own_names_are_accepted(authority: str) -> None:
    assert Hosts("127.0.0.1", ["library", "Docs.Example.internal"]).knows(authority)


@pytest.mark.parametrize("authority", FOREIGN)
def test_other_names_are_refused(authority: str) -> None:
    assert not Hosts("127.0.0.1", ["library", "docs.example.internal"]).knows(authority)


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "192.168.1.7"])
def test_an_open_server_accepts_addresses_but_no_foreign_names(bound: str) -> None:
    hosts = Hosts(bound)
    assert all(hosts.knows(own) for own in ("192.168.1.7:8000", "[fe80::1]:8000", "127.0.0.1", "localhost"))
    assert not any(hosts.knows(name) for name in ("library", "evil.com", "192.168.1.7.nip.io", ""))


def test_host_of_leaves_out_port_and_brackets() -> None:
    assert [host_of(each) for each in ("A.b:1", "[::1]:2", "[::1", "1.2.3.4")] == ["a.b", "::1", None, "1.2.3.4"]
