"""Small commands start without importing the libraries of the server."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"faiss", "tantivy", "llama_cpp", "onnxruntime", "torch", "transformers", "litestar", "uvicorn", "numpy"}
RUN = """
import sys
from server.__main__ import main
try:
    code = main()
except SystemExit as exit:
    code = exit.code
print("LOADED", *{modules} & sys.modules.keys())
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["keys", "list"],
        ["keys", "create", "--name", "laptop"],
        ["models", "list"],
        ["models", "--help"],
        ["ask", "--help"],
        ["status", "--help"],
    ],
    ids=" ".join,
)
def test_small_commands_load_no_heavy_library(tmp_path: Path, arguments: list[str]) -> None:
    environment = {"CLOISTER_DATA": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    code = RUN.replace("{modules}", repr(HEAVY))
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]
