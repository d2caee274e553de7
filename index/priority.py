"""Lowers the scheduling priority of a process."""

import contextlib
import os


def yield_to_others() -> None:
    """Run this process and the threads it starts from now on only when no other process wants the processor.

    Linux: SCHED_IDLE. Elsewhere, or where that is not allowed: the lowest nice value. There is no way back without
    privileges.
    """
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    with contextlib.suppress(OSError):
        os.nice(19)
