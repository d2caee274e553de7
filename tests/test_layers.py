"""Who may import whom, by a walk over the syntax trees; and what the server process must not load."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import PACKAGES, ROOT, ImportGraph, all_imports, project_modules

MAY_IMPORT = {"server": {"index", "models"}, "models": set[str](), "index": set[str]()}
# A library, and the only place that may import it.
ONLY_IN = {
    "litestar": "server/",
    "uvicorn": "server/",
    "mcp": "server/api/mcp/",
    "mcp_types": "server/api/mcp/",
    "llama_cpp": "models/llm/llama/",
    "sentence_transformers": "models/encoder/",
    "transformers": "models/encoder/",
    "torch": "models/encoder/",
    "onnxruntime": "models/encoder/",
    "tokenizers": "models/encoder/",
    "faiss": "index/dense/",
    "tantivy": "index/lexical/",
}


# The most of the project's modules that loading each may load: it stays as light as it is.
MAX_REACHABLE = {
    "server.api.chat.request": 50,
    "server.http.problems": 10,
    "server.access.boundary": 15,
    "server.settings.settings": 30,
    "server.settings.reading": 30,
    "server.cli.keys": 40,
    "server.cli.main": 25,
}


def violations(root: Path) -> list[str]:
    found = []
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            place = file.relative_to(root).as_posix()
            tops = {module.partition(".")[0] for module in all_imports(ast.parse(file.read_text()))}
            for top in sorted(tops):
                is_foreign = top in PACKAGES and top not in {package, *MAY_IMPORT[package]}
                is_misplaced = top in ONLY_IN and not place.startswith(ONLY_IN[top])
                if is_foreign or is_misplaced:
                    found.append(f"{place} imports {top}")
    return found


def test_packages_keep_to_their_layers() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("index/ingest/chunker.py", "import models.ipc"),
        ("models/catalog.py", "from index.types import Chunk"),
        ("models/llm/engine/scheduler.py", "import server.app"),
        ("index/search/retriever.py", "from litestar import get"),
        ("models/llm/engine/engine.py", "import llama_cpp"),
        ("server/app.py", "def late():\n    import torch"),
        ("index/ingest/indexer.py", "import faiss"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, place: str, line: str) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.gguf", "__pycache__"))
    with (tmp_path / place).open("a") as file:
        file.write(f"\n{line}\n")
    (violation,) = violations(tmp_path)
    assert violation.startswith(f"{place} imports ")


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
