"""Who may import whom, by a walk over the syntax trees; and what the server process must not load."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("server", "models", "index")
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
    "faiss": "index/dense/vector_index.py",
    "tantivy": "index/lexical/inverted.py",
}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def violations(root: Path) -> list[str]:
    found = []
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            place = file.relative_to(root).as_posix()
            for module in imports(ast.parse(file.read_text())):
                top = module.partition(".")[0]
                is_foreign = top in PACKAGES and top not in {package, *MAY_IMPORT[package]}
                is_misplaced = top in ONLY_IN and not place.startswith(ONLY_IN[top])
                if is_foreign or is_misplaced:
                    found.append(f"{place} imports {module}")
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


def test_the_server_process_loads_no_tensor_library() -> None:
    libraries = {"torch", "transformers", "sentence_transformers", "onnxruntime", "tokenizers", "mcp"}
    code = f"import sys, server.cli; print(*{libraries} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
