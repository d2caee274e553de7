"""Source code, parsed by tree-sitter: functions and classes are units, and their qualified names the headings.

Files in languages without a grammar here are cut at empty lines.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tree_sitter_c
import tree_sitter_cpp
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser

from index.reading.readers.text import decode, read_plain
from index.types import Block, ParsedDocument

_WORD = re.compile(r"\w")
_MAX_WHOLE_BYTES = 600  # of a class that is one unit with its methods
_MAX_DEPTH = 32  # definitions in definitions


class _Grammar(NamedTuple):
    """A language and the types of its nodes that are definitions; `containers` are those that hold others."""

    language: Callable[[], object]
    units: frozenset[str]
    containers: frozenset[str] = frozenset()


def _names(*names: str) -> frozenset[str]:
    return frozenset(names)


_SCRIPT_UNITS = _names(
    "function_declaration", "generator_function_declaration", "method_definition", "lexical_declaration",
    "type_alias_declaration", "enum_declaration", "interface_declaration", "function_signature",
)  # fmt: skip
_SCRIPT_CONTAINERS = _names("class_declaration", "abstract_class_declaration", "internal_module", "module")
_C_UNITS = _names("function_definition", "struct_specifier", "enum_specifier", "union_specifier", "type_definition")
_PYTHON = _Grammar(tree_sitter_python.language, _names("function_definition"), _names("class_definition"))
_JAVASCRIPT = _Grammar(tree_sitter_javascript.language, _SCRIPT_UNITS, _SCRIPT_CONTAINERS)
_TYPESCRIPT = _Grammar(tree_sitter_typescript.language_typescript, _SCRIPT_UNITS, _SCRIPT_CONTAINERS)
_TSX = _Grammar(tree_sitter_typescript.language_tsx, _SCRIPT_UNITS, _SCRIPT_CONTAINERS)
_GO = _Grammar(tree_sitter_go.language, _names("function_declaration", "method_declaration", "type_declaration"))
_RUST = _Grammar(
    tree_sitter_rust.language,
    _names("function_item", "struct_item", "enum_item", "union_item", "macro_definition", "type_item"),
    _names("impl_item", "trait_item", "mod_item"),
)
_JAVA = _Grammar(
    tree_sitter_java.language,
    _names("method_declaration", "constructor_declaration", "annotation_type_declaration"),
    _names("class_declaration", "interface_declaration", "enum_declaration", "record_declaration"),
)
_C = _Grammar(tree_sitter_c.language, _C_UNITS)
_CPP = _Grammar(
    tree_sitter_cpp.language,
    _C_UNITS - {"struct_specifier"},
    _names("class_specifier", "struct_specifier", "namespace_definition"),
)
_GRAMMARS = {
    ".py": _PYTHON, ".pyi": _PYTHON,
    ".js": _JAVASCRIPT, ".mjs": _JAVASCRIPT, ".cjs": _JAVASCRIPT, ".jsx": _JAVASCRIPT,
    ".ts": _TYPESCRIPT, ".mts": _TYPESCRIPT, ".cts": _TYPESCRIPT, ".tsx": _TSX,
    ".go": _GO, ".rs": _RUST, ".java": _JAVA, ".c": _C,
    ".h": _CPP, ".cc": _CPP, ".cpp": _CPP, ".cxx": _CPP, ".hh": _CPP, ".hpp": _CPP, ".hxx": _CPP,
}  # fmt: skip
# Nodes around a definition: they are part of its unit.
_WRAPPERS = _names(
    "decorated_definition", "export_statement", "template_declaration", "ambient_declaration", "linkage_specification",
    "declaration", "field_declaration", "expression_statement",
)  # fmt: skip
_COMMENTS = _names("comment", "line_comment", "block_comment", "attribute_item", "decorator")
_BODIES = _names("block", "class_body", "declaration_list", "field_declaration_list", "interface_body", "enum_body",
                 "enum_body_declarations", "statement_block", "record_body")  # fmt: skip


class _Unit(NamedTuple):
    """A definition: its span in bytes, and the names of the definitions around it with its own."""

    start: int
    end: int
    path: tuple[str, ...]


def read(content: bytes, suffix: str) -> ParsedDocument:
    text = decode(content, may_declare=True)
    grammar = _GRAMMARS.get(suffix)
    return read_plain(text) if grammar is None else _read_code(text, grammar)


def _read_code(text: str, grammar: _Grammar) -> ParsedDocument:
    encoded = text.encode()
    tree = Parser(Language(grammar.language())).parse(encoded)
    units = _fill_gaps(list(_units(tree.root_node, grammar, ())), len(encoded))
    blocks: list[Block] = []
    at = at_bytes = 0
    for section, unit in enumerate(units):
        start = at + len(encoded[at_bytes : unit.start].decode(errors="replace"))
        end = start + len(encoded[unit.start : unit.end].decode(errors="replace"))
        at, at_bytes = end, unit.end
        body = text[start:end].strip()
        if not _WORD.search(body):  # a closing bracket
            continue
        start = text.index(body, start)
        line = text.rfind("\n", 0, start) + 1
        indent = text[line:start]
        blocks.append(Block(start if indent.strip() else line, start + len(body), unit.path, section))
    return ParsedDocument(text, blocks, None)


def _fill_gaps(units: list[_Unit], size: int) -> Iterator[_Unit]:
    """Yield the units, and the text between them as units of the definition that it stands in."""
    at = 0
    for unit in units:
        if at < unit.start:
            yield _Unit(at, unit.start, unit.path[:-1])
        if unit.end > max(at, unit.start):
            yield unit._replace(start=max(at, unit.start))
            at = unit.end
    if at < size:
        yield _Unit(at, size, ())


def _units(parent: Node, grammar: _Grammar, path: tuple[str, ...]) -> Iterator[_Unit]:
    """Yield the definitions below a node, in order and apart. A class's own lines are units of its name."""
    comments_from: int | None = None
    comments_to = -1
    for child in parent.children:
        if child.type in _COMMENTS:
            if comments_from is None or child.start_point.row > comments_to + 1:
                comments_from = child.start_byte
            comments_to = child.end_point.row
            continue
        definition = _definition(child, grammar)
        is_adjacent = comments_from is not None and child.start_point.row <= comments_to + 1
        start = comments_from if is_adjacent and comments_from is not None else child.start_byte
        comments_from = None
        if definition is None:
            if child.type in _BODIES or child.type == "ERROR":
                yield from _units(child, grammar, path)
            continue
        name = (*path, _name(definition))
        is_container = definition.type in grammar.containers
        if not is_container or child.end_byte - start <= _MAX_WHOLE_BYTES or len(name) >= _MAX_DEPTH:
            yield _Unit(start, child.end_byte, name)
            continue
        inner = list(_units(definition, grammar, name))
        at = start
        for unit in inner:
            if at < unit.start:
                yield _Unit(at, unit.start, name)
            yield unit
            at = unit.end
        if at < child.end_byte:
            yield _Unit(at, child.end_byte, name)


def _definition(node: Node, grammar: _Grammar) -> Node | None:
    """Return the definition that this node is or wraps, or None."""
    for _ in range(4):
        if node.type in grammar.containers or node.type in grammar.units:
            return node if node.type != "lexical_declaration" or _holds_function(node) else None
        if node.type not in _WRAPPERS:
            return None
        kinds = grammar.units | grammar.containers | _WRAPPERS
        inner = next((child for child in node.children if child.type in kinds), None)
        if inner is None:
            return None
        node = inner
    return None


def _holds_function(declaration: Node) -> bool:
    values = (child.child_by_field_name("value") for child in declaration.children)
    return any(value is not None and "function" in value.type for value in values)


def _name(definition: Node) -> str:
    """Return the name of a definition: `Stack`, `push`, `Stack.push` for a Go method."""
    if definition.type == "method_declaration" and (receiver := definition.child_by_field_name("receiver")):
        types = [_text(node) for node in _descendants(receiver) if node.type == "type_identifier"]
        own = definition.child_by_field_name("name")
        return ".".join([*types[:1], _text(own) if own else ""])
    for field in ("name", "declarator", "type"):
        named = definition.child_by_field_name(field)
        while named is not None and (inner := named.child_by_field_name("declarator")) is not None:
            named = inner
        if named is not None:
            return " ".join(_text(named).split())[:120]
    for child in definition.children:  # a declaration of one thing: `const run = () => …`, `type Stack struct …`
        if child.child_by_field_name("name") is not None:
            return _name(child)
    return definition.type.removesuffix("_definition").removesuffix("_declaration")


def _descendants(node: Node) -> Iterator[Node]:
    for child in node.children:
        yield child
        yield from _descendants(child)


def _text(node: Node) -> str:
    return (node.text or b"").decode(errors="replace")
