"""Notes what a Python process asks of the network, from the inside: for scripts/prove/offline.py, which puts a copy of
this on the path of every process. A file by the process's id says that it was watched; its lines are attempts."""

import os
import sys
from pathlib import Path

_HERE = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}
_noted = os.open(Path(__file__).parent / f"{os.getpid()}.noted", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}:
        host = arguments[0]
    else:
        return
    host = host.decode(errors="replace") if isinstance(host, bytes) else host
    if host not in _HERE:
        os.write(_noted, f"{event} {host} by {' '.join(sys.orig_argv)[:200]}\n".encode())


sys.addaudithook(_note)
