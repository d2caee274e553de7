"""Processes leave no dumps of what they hold."""

import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")
def test_a_process_is_not_dumped_and_not_to_be_read() -> None:
    code = (
        "import ctypes, resource; from models.cores import leave_no_cores;"
        "told = lambda: (ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0]);"
        "resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]));"
        "before = told(); leave_no_cores(); print(before, told())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "(1, 4096) (0, 0)"
