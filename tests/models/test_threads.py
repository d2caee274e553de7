"""Which threads give way."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.threads import give_way, num_physical_cores


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_one_thread_gives_way_and_no_other() -> None:
    before = niceness()
    with ThreadPoolExecutor(1, initializer=give_way) as calm, ThreadPoolExecutor(1) as other:
        assert calm.submit(niceness).result() == max(before, 10)
        assert other.submit(niceness).result() == niceness() == before


def test_there_is_a_core() -> None:
    assert 1 <= num_physical_cores() <= (os.cpu_count() or 1)
