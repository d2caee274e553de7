"""Logs a Python process's attempts to reach the network, through an audit hook.

scripts/prove/offline.py puts a copy of this file on the path of every process. The file PID.log beside it shows that
the process had the hook; each of its lines is an attempt.
"""

import os
import sys
from pathlib import Path

_LOOPBACK = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}
_log = os.open(Path(__file__).parent / f"{os.getpid()}.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)


def _log_attempt(event: str, arguments: tuple[object, ...]) -> None:
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}:
        host = arguments[0]
    else:
        return
    host = host.decode(errors="replace") if isinstance(host, bytes) else host
    if host not in _LOOPBACK:
        os.write(_log, f"{event} {host} by {' '.join(sys.orig_argv)[:200]}\n".encode())


sys.addaudithook(_log_attempt)
