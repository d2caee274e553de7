"""HTML, parsed by lexbor: text in the order of the page, under its headings; tables row by row."""

from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from index.reading.readers.canonical import CanonicalText, one_line
from index.reading.readers.text import decode
from index.types import Location, ParsedDocument

_SKIPPED = frozenset(["head", "script", "style", "noscript", "template", "svg", "iframe", "object", "nav", "select"])
_INLINE = frozenset(
    """
    a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark math output q ruby s samp small
    span strike strong sub sup time tt u var wbr
    """.split()  # noqa: SIM905 - a list of fifty quoted words reads worse
)
_HEADINGS = {f"h{depth}": depth for depth in range(1, 7)}
_MAX_DEPTH = 20_000  # open elements; what is deeper is left out


def read(content: bytes, suffix: str) -> ParsedDocument:
    canonical = CanonicalText()
    tree = LexborHTMLParser(decode(content, may_declare=True))
    walk(canonical, tree, None)
    title = tree.css_first("title") or tree.css_first("h1")
    return canonical.finish(None if title is None else title.text())


def extract_text(markup: str) -> str:
    """Return the text of a page, in paragraphs."""
    canonical = CanonicalText()
    walk(canonical, LexborHTMLParser(markup), None)
    return canonical.finish(None).text


def walk(canonical: CanonicalText, tree: LexborHTMLParser, place: Location | None) -> None:
    """Add the page's body to the text. Does not recurse: elements can be nested thousands deep."""
    body = tree.body
    if body is None:
        return
    words: list[str] = []

    def flush(mark: str = "") -> None:
        """Add the words so far as a paragraph that begins with `mark`."""
        text = one_line("".join(words))
        words.clear()
        if text:
            canonical.add_text(mark + text, place)

    bullet = ""
    stack: list[tuple[LexborNode, bool]] = [(body, False)]
    while stack:
        node, is_end = stack.pop()
        tag = node.tag or ""
        if tag == "-text":
            words.append(node.text_content or "")
        elif is_end:
            flush(bullet)
            bullet = ""
        elif tag == "br":
            words.append(" ")
        elif tag in _SKIPPED or tag.startswith(("-", "!")):
            continue
        elif tag in _INLINE:
            stack += reversed([(child, False) for child in _children(node)])
        else:
            flush(bullet)
            bullet = "- " if tag == "li" else ""
            if tag in _HEADINGS:
                canonical.add_heading(_HEADINGS[tag], node.text(), place)
            elif tag == "pre":
                canonical.add_text(node.text(), place)
            elif tag == "table" and not node.css("table table"):
                _add_table(canonical, node, place)
            elif len(stack) < _MAX_DEPTH:
                stack.append((node, True))
                stack += reversed([(child, False) for child in _children(node)])
    flush(bullet)


def _children(node: LexborNode) -> Iterator[LexborNode]:
    child = node.child
    while child is not None:
        yield child
        child = child.next


def _add_table(canonical: CanonicalText, table: LexborNode, place: Location | None) -> None:
    caption = table.css_first("caption")
    if caption is not None:
        canonical.add_text(one_line(caption.text()), place)
    rows = [row.css("th, td") for row in table.css("tr")]
    has_header = len(rows) > 1 and bool(rows[0]) and all(cell.tag == "th" for cell in rows[0])
    canonical.add_table(((cell_texts(row), place) for row in rows if row), has_header=has_header)


def cell_texts(row: list[LexborNode]) -> list[str]:
    return [cell.text(separator=" ") for cell in row]
