"""No core dumps: they would hold what was asked and answered, and end up wherever the system keeps them."""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def leave_no_cores() -> None:
    """For this process. What it starts inherits the limit only, so each process calls it.

    A limit of 0 does not keep Linux from piping a dump to a collector such as systemd-coredump (core(5)); that it is
    not dumpable does, and other processes of the user cannot read its memory then.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
