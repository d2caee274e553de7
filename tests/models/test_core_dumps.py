"""Core dumps are disabled in every process of this project."""

import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the setting with Linux's prctl")
def test_disable_core_dumps_makes_the_process_undumpable_and_sets_the_limit_to_0() -> None:
    code = (
        "import ctypes, resource; from models.core_dumps import disable_core_dumps;"
        "state = lambda: (ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0]);"
        "resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]));"
        "before = state(); disable_core_dumps(); print(before, state())"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "(1, 4096) (0, 0)"
