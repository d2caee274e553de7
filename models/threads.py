"""How many threads native code may use, and which give way."""

import contextlib
import os
import sys
import threading
from pathlib import Path


def num_physical_cores() -> int:
    """Physical cores this process may run on: a second hardware thread of a core slows ggml's barriers down.

    From Linux's topology files where they exist, else the number of processors.
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


_GIVING_WAY = 10  # a nice value: a tenth of a processor that others want too, so that nothing waits for ever


def give_way() -> None:
    """The calling thread leaves processors to threads of ordinary priority. Linux only: elsewhere a thread has none."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, max(os.getpriority(os.PRIO_PROCESS, thread), _GIVING_WAY))
