"""PDF, parsed by liteparse (PDFium): every page as Markdown, with its headings, tables and columns."""

from liteparse import LiteParse
from liteparse.types import ParseError

from index.errors import UnreadableDocument
from index.reading.readers.canonical import CanonicalText, clean
from index.reading.readers.markdown import read_markdown
from index.types import Location, ParsedDocument

_SIGNATURE = b"%PDF-"
_HEADER_BYTES = 1024  # in which the signature must lie
_MAX_PAGES = 1_000_000  # liteparse would silently stop at the thousandth
_MAX_LISTED = 8  # page numbers in a note
_EMPTY_PAGE = "```text\n\n```"  # liteparse's Markdown for a page without text


def read(content: bytes, suffix: str) -> ParsedDocument:
    if _SIGNATURE not in content[:_HEADER_BYTES]:  # liteparse would look for a program that reads another format
        raise UnreadableDocument("it is not a PDF")
    parser = LiteParse(
        ocr_enabled=False, output_format="markdown", quiet=True, continue_on_page_error=True, max_pages=_MAX_PAGES
    )
    try:
        pages = parser.parse(content[content.index(_SIGNATURE) :]).pages
    except ParseError as error:
        reason = "the PDF is encrypted" if "password" in str(error) else f"the PDF is damaged ({error})"
        raise UnreadableDocument(reason) from error
    canonical = CanonicalText()
    headings: list[str] = []
    title: str | None = None
    empty = []
    for page in pages:
        text = clean(page.markdown).strip()
        if (
            not text or text == _EMPTY_PAGE
        ):  # also a page whose text repeats on others, which liteparse takes for margins
            text = clean(page.text).strip()
        if not text:
            empty.append(page.page_num)
            continue
        part = read_markdown(text, headings)
        title = title or part.title
        canonical.start_section()
        canonical.add_markdown(part, Location("page", page.page_num, page.page_num))
    if not pages:
        raise UnreadableDocument("the PDF has no pages")
    if len(empty) == len(pages):
        raise UnreadableDocument(f"none of its pages has a text layer ({len(pages)}): it may be scanned")
    return canonical.finish(title, [_note(empty)] if empty else ())


def _note(pages: list[int]) -> str:
    if len(pages) == 1:
        return f"page {pages[0]} has no text layer"
    numbers = ", ".join(map(str, pages[:_MAX_LISTED]))
    return f"pages {numbers}{' and others' if len(pages) > _MAX_LISTED else ''} have no text layer ({len(pages)})"
