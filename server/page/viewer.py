"""HTML pages with a document's text in the index, around the passage that a citation links to.

All text is escaped, since it comes from documents. There are no scripts; the content security policy allows the one
stylesheet by its hash.
"""

import base64
import hashlib
import html
from collections.abc import Iterator
from functools import cache

from index.storage.records import DocumentExcerpt, StoredChunk
from index.types import Location, with_lead

_STYLE = """
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem; overflow-wrap: anywhere }
section { border-left: .25rem solid transparent; padding: 0 1rem; margin: 1rem -1rem }
section.cited { border-color: #d08700; background: #d0870022 }
pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; margin: .25rem 0 }
small, nav { color: GrayText }
.note { border: 1px solid; padding: .5rem 1rem }
"""


@cache
def headers() -> dict[str, str]:
    """Return the headers of every page. They forbid it to load, run or send anything."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return {
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def document_page(document: DocumentExcerpt) -> bytes:
    """Return the page of an excerpt, with the cited chunks highlighted and links to the text around it."""
    title = document.title
    before = document.start - len(document.chunks)
    after = document.start + len(document.chunks)
    parts = [f"<h1>{_text(title)}</h1>"]
    if document.note:
        parts.append(f'<p class="note">Not read: {_text(document.note)}.</p>')
    if not document.num_chunks:
        parts.append("<p>Nothing of this document is indexed.</p>")
    if document.start > 0:
        parts.append(f'<nav><a href="?at={max(before, 0)}">Earlier in this document</a></nav>')
    parts += _sections(document)
    if after < document.num_chunks:
        parts.append(f'<nav><a href="?at={after}">Later in this document</a></nav>')
    return _page(title, parts)


def missing_page(document_id: int, document: DocumentExcerpt | None) -> bytes:
    """Return the page for a link to a passage that is gone. `document` is None if the document is gone too."""
    if document is None:
        parts = [
            "<h1>This document is not in the index</h1>",
            "<p>Its file was deleted or moved out of the folder, or the folder is not watched any more.</p>",
        ]
        return _page("Not in the index", parts)
    title = document.title
    parts = [
        f"<h1>{_text(title)}</h1>",
        '<p class="note">The passage is not in this document any more: the file has changed since it was cited.</p>',
        f'<p><a href="/documents/{document_id}">The document as it is now</a></p>',
    ]
    return _page(title, parts)


def _sections(document: DocumentExcerpt) -> Iterator[str]:
    chunks = document.chunks
    for at, chunk in enumerate(chunks):
        if chunk.id not in document.highlighted:
            yield _section(chunk, "")
            continue
        around = [("Previous passage", chunks[at - 1])] if at else []
        around += [("Next passage", chunks[at + 1])] if at + 1 < len(chunks) else []
        links = " · ".join(f'<a href="?chunk={c.id}#chunk-{c.id}">{name}</a>' for name, c in around)
        yield _section(chunk, ' class="cited"') + (f"\n<nav>{links}</nav>" if links else "")


def _section(chunk: StoredChunk, attribute: str) -> str:
    place = chunk.place or Location("line", chunk.line_from, chunk.line_to)
    where = _text(" › ".join((*chunk.heading, place.label)))
    link = f'<a href="?chunk={chunk.id}#chunk-{chunk.id}">{where}</a>'
    text = _text(with_lead(chunk.lead, chunk.text))
    return f'<section id="chunk-{chunk.id}"{attribute}><small>{link}</small><pre dir="auto">{text}</pre></section>'


def _page(title: str, parts: list[str]) -> bytes:
    body = "\n".join(parts)
    page = (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style>\n{body}\n</html>\n"
    )
    return page.encode(errors="replace")


def _text(text: str) -> str:
    """Return the text escaped, with NUL, which HTML cannot have, as the replacement character."""
    return html.escape(text.replace("\0", "\ufffd"))
