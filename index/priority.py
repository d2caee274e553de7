"""Giving way: a process that must never slow another down."""

import contextlib
import os


def yield_to_others() -> None:
    """Runs this process, and the threads it starts from now on, only when nobody else wants the processor.

    Linux: SCHED_IDLE. Elsewhere, or where that is not allowed: the lowest nice value. There is no way back without
    privileges.
    """
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    with contextlib.suppress(OSError):
        os.nice(19)
