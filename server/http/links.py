"""URLs of the server's own pages."""

from index.types import Passage


def passage_url(base_url: str, passage: Passage) -> str:
    """Return the URL of the page that shows the passage highlighted in its document."""
    first, last = passage.span or (passage.chunk_id, passage.chunk_id)
    through = f"&through={last}" if last != first else ""
    return f"{document_url(base_url, passage.document_id)}?chunk={first}{through}#chunk-{first}"


def document_url(base_url: str, document_id: int) -> str:
    return f"{base_url.rstrip('/')}/documents/{document_id}"
