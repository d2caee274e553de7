"""EPUB: the chapters in the order of the book's spine, each an HTML page."""

import posixpath
from urllib.parse import unquote

from lxml import etree
from selectolax.lexbor import LexborHTMLParser

from index.errors import UnreadableDocument
from index.reading.readers.archive import open_archive, read_part
from index.reading.readers.canonical import CanonicalText
from index.reading.readers.html import walk
from index.reading.readers.text import decode
from index.types import Location, ParsedDocument

_CONTAINER = "META-INF/container.xml"
_PAGES = ("application/xhtml+xml", "text/html")


def read(content: bytes, suffix: str) -> ParsedDocument:
    archive = open_archive(content)
    names = set(archive.namelist())
    if "META-INF/encryption.xml" in names and b"aes" in read_part(archive, "META-INF/encryption.xml").lower():
        raise UnreadableDocument("the book is encrypted (DRM)")
    package_name = _first(_xml(read_part(archive, _CONTAINER)), "rootfile").get("full-path", "")
    package = _xml(read_part(archive, package_name))
    items = {item.get("id"): item for item in package.iterfind(".//{*}manifest/{*}item")}
    pages = [items[ref.get("idref")] for ref in package.iterfind(".//{*}spine/{*}itemref") if ref.get("idref") in items]
    canonical = CanonicalText()
    for number, page in enumerate((page for page in pages if page.get("media-type") in _PAGES), 1):
        name = posixpath.normpath(posixpath.join(posixpath.dirname(package_name), unquote(page.get("href", ""))))
        if name in names:
            canonical.start_section()
            tree = LexborHTMLParser(decode(read_part(archive, name), may_declare=True))
            walk(canonical, tree, Location("chapter", number, number))
    title = package.find(".//{http://purl.org/dc/elements/1.1/}title")
    return canonical.finish(None if title is None else title.text)


def _xml(content: bytes) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise UnreadableDocument(f"the book's table of parts is damaged ({error.msg})") from error


def _first(tree: etree._Element, tag: str) -> etree._Element:
    element = tree.find(f".//{{*}}{tag}")
    if element is None:
        raise UnreadableDocument(f"the book's table of parts has no {tag}")
    return element
