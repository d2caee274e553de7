"""How many threads native code may use."""

import os
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
