"""The host names of this server, a defence against DNS rebinding.

The owner of another host name can make it resolve to this machine, and a browser then treats this server as theirs. So
a request with any other name in its Host header is refused.
"""

import ipaddress
import re
from collections.abc import Sequence

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?))(?::[0-9]{1,5})?")
_LOOPBACK_NAMES = frozenset({"localhost"})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def host_of(authority: str) -> str | None:
    """Return the host of `host:port`, in lower case and without brackets; None for any other text."""
    match = _AUTHORITY.fullmatch(authority.lower())
    if match is None:
        return None
    literal, name = match.groups()
    if literal is None:
        return name
    return literal if _address(literal) is not None else None


def is_loopback(host: str) -> bool:
    """Return whether the host is a loopback address or the name of one."""
    address = _address(host)
    return host in _LOOPBACK_NAMES if address is None else address.is_loopback


def is_open(host: str) -> bool:
    """Return whether the host is an address that other machines may reach."""
    return _address(host) is not None and not is_loopback(host)


class Hosts:
    """The names of this server. `bound` is the address that it listens on; `declared` are further names."""

    def __init__(self, bound: str, declared: Sequence[str] = ()) -> None:
        self._bound = _address(bound)
        self._is_open = is_open(bound)
        self._names = _LOOPBACK_NAMES | {name.lower() for name in declared}

    def knows(self, authority: str) -> bool:
        """Return whether a Host header names this server.

        Where other machines may connect, any address does: nobody can make an address resolve elsewhere.
        """
        host = host_of(authority)
        if host is None:
            return False
        address = _address(host)
        if address is None:
            return host in self._names
        return self._is_open or address.is_loopback or address == self._bound


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
