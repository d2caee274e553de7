"""Nothing is unpickled while models are loaded, files indexed and questions answered, in any of the processes."""

import os
from pathlib import Path

import pytest
from real_server import serving, wait_until, write_handbook

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

HOOK = """
import os, sys

def hear(event, args):
    if event == "pickle.find_class":
        with open(os.environ["HEARD"], "a") as file:
            file.write(f"{os.getpid()} {args}\\n")

sys.addaudithook(hear)
if os.environ.get("UNPICKLES"):
    import collections, pickle

    pickle.loads(pickle.dumps(collections.OrderedDict()))
"""


@pytest.mark.parametrize("unpickles", [False, True], ids=["as it is", "one who does is heard"])
def test_no_process_unpickles_anything(tmp_path: Path, unpickles: bool) -> None:
    hooks, record = tmp_path / "hooks", tmp_path / "heard"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join(filter(None, [str(hooks), os.environ.get("PYTHONPATH", "")]))
    environment = {"PYTHONPATH": path, "HEARD": str(record), **({"UNPICKLES": "1"} if unpickles else {})}
    docs = write_handbook(tmp_path / "handbook")
    with serving(tmp_path, docs, environment=environment) as server:
        assert "sixteen weeks" in server.answer("How long is parental leave?")
        (docs / "new.md").write_text("# Parking\n\nBicycles are parked behind the greenhouse.\n")
        wait_until(
            lambda: "greenhouse" in server.answer("Where are bicycles parked?"), what="the new file in an answer"
        )
    text = record.read_text() if record.exists() else ""
    assert bool(text) is unpickles, text
    assert not unpickles or len({line.split()[0] for line in text.splitlines()}) >= 4  # the server and its three
