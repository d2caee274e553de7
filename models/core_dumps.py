"""Turn core dumps off: they would hold questions and answers, and end up wherever the system keeps them."""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4  # prctl(2)


def disable_core_dumps() -> None:
    """Turn core dumps off for this process. A child inherits only the limit, so each process calls this itself.

    A limit of 0 does not keep Linux from piping a dump to a collector such as systemd-coredump (core(5)). A process
    that is not dumpable is never dumped, and no other process of the same user can read its memory.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
