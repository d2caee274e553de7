"""Imports keep to the rules of tests/layers.py, and modules and processes load no more than they need."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from import_graph import ROOT, ImportGraph, project_modules
from packaging.requirements import Requirement

from tests.layers import KNOWN, LIBRARIES, MUTUAL_FOLDERS, violations

# The most of the project's modules that loading each may load: it stays as light as it is.
MAX_REACHABLE = {
    "server.api.chat.request": 50,
    "server.http.problems": 10,
    "server.access.middleware": 15,
    "server.settings.settings": 30,
    "server.settings.reading": 30,
    "server.cli.keys": 40,
    "server.cli.main": 25,
}


def test_imports_keep_to_the_rules() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("place", "line", "rule"),
    [
        ("index/ingest/chunker.py", "import models.ipc", "a package above this one"),
        ("models/catalog.py", "from index.types import Chunk", "a package above this one"),
        ("models/llm/engine/scheduler.py", "import server.app", "a package above this one"),
        ("index/search/retriever.py", "from litestar import get", "a library of other rooms"),
        ("models/llm/engine/engine.py", "import llama_cpp", "a library of other rooms"),
        ("server/app.py", "def late():\n    import torch", "a library of other rooms"),
        ("server/rag/pipeline.py", "import apsw", "a library of other rooms"),
        ("server/storage/base.py", "import server.files.service", "server.files is not below server.storage"),
        ("server/rag/pipeline.py", "import server.generation.generate", "server.generation is not below server.rag"),
        ("server/generation/generate.py", "import server.api.chat.wire", "server.api is not below server.generation"),
        ("server/resources/pool.py", "def late():\n    import server.services", "server.services is not below"),
        ("server/errors.py", "import server.settings.settings", "server.settings is not below server.errors"),
        ("server/rag/pipeline.py", "import server.http.problems", "HTTP is for the rooms that handle requests"),
        ("models/llm/kv/radix_tree.py", "import models.llm.engine.engine", "models.llm.engine is not below"),
        ("models/llm/params.py", "import models.llm.base", "models.llm is not below models.llm.params"),
        ("index/storage/base.py", "import index.search.retriever", "index.search is not below index.storage"),
        ("index/ingest/indexer.py", "import index.search.retriever", "index.search is not below index.ingest"),
        ("server/api/chat/wire.py", "import server.api.batches.worker", "its folder is imported there too"),
    ],
)
def test_violations_reports_a_wrong_import(place: str, line: str, rule: str) -> None:
    found = violations(ROOT, place, line)
    assert found
    assert any(each.startswith(f"{place} imports ") and rule in each for each in found)


def test_every_dependency_has_its_rooms() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["tracing"]
    assert {Requirement(each).name for each in [*project["dependencies"], *extra]} == LIBRARIES.keys()


def test_exceptions_from_the_rules_are_few() -> None:
    assert all(MUTUAL_FOLDERS.values()), "each pair has a reason"
    assert len(KNOWN) == 0


@pytest.mark.parametrize(("module", "limit"), MAX_REACHABLE.items())
def test_a_module_reaches_few_others(module: str, limit: int) -> None:
    reached = ImportGraph(project_modules()).reachable(module)
    assert len(reached) <= limit, sorted(reached)


def test_the_modules_that_a_module_reaches_are_counted(tmp_path: Path) -> None:
    files = {
        "server/__init__.py": "",
        "server/a.py": "from server import b\nimport server.package.c\nimport json",
        "server/b.py": "def late():\n    import server.d\nif TYPE_CHECKING:\n    import server.d",
        "server/d.py": "",
        "server/package/__init__.py": "import server.e",
        "server/package/c.py": "try:\n    from server.f import name\nexcept ImportError:\n    pass",
        "server/e.py": "",
        "server/f.py": "from server.a import b",
    }
    for path, code in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(code)
    reached = ImportGraph(project_modules(tmp_path)).reachable("server.a")
    assert reached == {f"server.{name}" for name in ("a", "b", "package", "package.c", "e", "f")}


def test_the_server_process_loads_no_tensor_library() -> None:
    libraries = {"torch", "transformers", "sentence_transformers", "onnxruntime", "tokenizers", "mcp"}
    code = f"import sys, server.cli; print(*{libraries} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
