"""How many threads native code may use, and the scheduling priority of threads."""

import contextlib
import os
import sys
import threading
from pathlib import Path

_LOW_PRIORITY_NICE = 10  # about a tenth of a processor that others want too, so that the work still goes on


def num_physical_cores() -> int:
    """Count the physical cores this process may run on; a core's second hardware thread slows ggml's barriers down.

    Read from Linux's topology files; where there are none, the number of processors.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cpus = os.sched_getaffinity(0)
    cores = set()
    for cpu in cpus:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(topology.read_text().strip())
        except OSError:
            return len(cpus)
    return len(cores)


def lower_thread_priority() -> None:
    """Raise the calling thread's nice value. Linux only: elsewhere only a process has one."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            nice = max(os.getpriority(os.PRIO_PROCESS, thread), _LOW_PRIORITY_NICE)
            os.setpriority(os.PRIO_PROCESS, thread, nice)
