"""Thread priorities and the number of cores."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.threads import lower_thread_priority, num_physical_cores


def nice_value() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own only on Linux")
def test_lower_thread_priority_changes_only_the_calling_thread() -> None:
    before = nice_value()
    with ThreadPoolExecutor(1, initializer=lower_thread_priority) as low_priority, ThreadPoolExecutor(1) as other:
        assert low_priority.submit(nice_value).result() == max(before, 10)
        assert other.submit(nice_value).result() == nice_value() == before


def test_num_physical_cores_is_between_1_and_the_number_of_processors() -> None:
    assert 1 <= num_physical_cores() <= (os.cpu_count() or 1)
