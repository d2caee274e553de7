"""Print how many of the project's modules each named module reaches through imports at module level.

    scripts/build/import_graph.py server.api.chat.request server.settings

`from package import module` counts the module; imports inside functions and under `if TYPE_CHECKING` do not run when
the module is loaded, so they do not count. tests/test_layers.py uses the functions.
"""

import argparse
import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("server", "models", "index")


def project_modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the file of every module of the product, by dotted name; a package's is its `__init__.py`."""
    modules = {}
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return modules


def imported_names(node: ast.AST) -> Iterator[str]:
    """Yield the dotted names that an import statement may load: of `from a import b`, both `a.b` and `a`."""
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for name in node.names:
            yield f"{node.module}.{name.name}"
        yield node.module


def all_imports(tree: ast.AST) -> Iterator[str]:
    """Yield the names of every import, wherever it stands."""
    for node in ast.walk(tree):
        yield from imported_names(node)


def module_imports(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the imports that run when the module is loaded."""
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        yield from imported_names(node)
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                pending += node.orelse
            case ast.If():
                pending += node.body + node.orelse
            case ast.Try():
                pending += node.body + node.orelse + node.finalbody
                pending += [statement for handler in node.handlers for statement in handler.body]
            case ast.With() | ast.ClassDef():
                pending += node.body


class ImportGraph:
    """The imports at module level between the project's modules. Reads each file once."""

    def __init__(self, modules: Mapping[str, Path]) -> None:
        self._modules = modules
        self._direct = cache(self._read)

    def reachable(self, start: str) -> set[str]:
        """Return the modules that loading `start` loads, itself among them. Raises `KeyError` for an unknown name."""
        reached: set[str] = set()
        pending = {start}
        while pending:
            module = pending.pop()
            reached.add(module)
            pending |= self._direct(module) - reached
        return reached

    def _read(self, module: str) -> frozenset[str]:
        """Return the modules that its imports name, and the packages around them that have code of their own."""
        names = {name for name in module_imports(ast.parse(self._modules[module].read_text())) if name in self._modules}
        packages = {parent for name in names for parent in _parents(name)}
        return frozenset(name for name in names | packages if not self._is_empty(name))

    def _is_empty(self, module: str) -> bool:
        file = self._modules[module]
        return file.name == "__init__.py" and not file.read_bytes().strip()


def _parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="+", metavar="MODULE")
    parser.add_argument("--list", action="store_true", help="print the names of the modules too")
    options = parser.parse_args()
    graph = ImportGraph(project_modules())
    for module in options.modules:
        reached = graph.reachable(module)
        print(f"{module} {len(reached)}")
        if options.list:
            print(*(f"    {name}" for name in sorted(reached)), sep="\n")


if __name__ == "__main__":
    main()
