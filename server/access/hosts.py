"""The names this server is called by. A name that somebody else owns may be made to lead here (DNS rebinding), and then
the browser takes this server for that one's; so a request that calls it by any other name is refused."""

import ipaddress
import re
from collections.abc import Sequence

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?))(?::[0-9]{1,5})?")
_LOOPBACK_NAMES = frozenset({"localhost"})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def host_of(authority: str) -> str | None:
    """The host of `host:port`, in lower case and without brackets; None for what is no such thing."""
    match = _AUTHORITY.fullmatch(authority.lower())
    if match is None:
        return None
    literal, name = match.groups()
    if literal is None:
        return name
    return literal if _address(literal) is not None else None


def is_loopback(host: str) -> bool:
    """Of an address, or the name of one. False for every other name."""
    address = _address(host)
    return host in _LOOPBACK_NAMES if address is None else address.is_loopback


def is_open(host: str) -> bool:
    """Of an address that other machines may reach."""
    return _address(host) is not None and not is_loopback(host)


class Hosts:
    """`bound` is the address that is listened on; `declared` are further names."""

    def __init__(self, bound: str, declared: Sequence[str] = ()) -> None:
        self._bound = _address(bound)
        self._is_open = is_open(bound)
        self._names = _LOOPBACK_NAMES | {name.lower() for name in declared}

    def knows(self, authority: str) -> bool:
        """Whether a Host header means this server. Where other machines may come in, any address does: an address
        belongs to nobody who could make it lead elsewhere."""
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
