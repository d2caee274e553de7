"""Pages of a collection's documents, as an indexer made them."""

from index.storage.records import DocumentState
from index.storage.sqlite.catalog import SqliteCatalog
from index.types import ParsedDocument
from tests.index.conftest import Workspace


def _workspace(workspace: Workspace) -> Workspace:
    reader = workspace.read

    def read(path: str, content: bytes) -> ParsedDocument:
        return [][0] if path == "c/bad.md" else reader(path, content)

    workspace.read = read
    for path in ("c/bad.md", "a.md", "c/Ä%_.md", "b.md"):
        workspace.write(path, f"# {path}\n\nIts text.")
    workspace.sync()
    return workspace


def _paths(
    workspace: Workspace, limit: int = 9, after: str = "", state: DocumentState | None = None, part: str = ""
) -> str:
    return " ".join(each.path for each in workspace.catalog.list_documents_by_path("notes", limit, after, state, part))


def test_a_page_has_documents_by_path_with_state_and_error(workspace: Workspace) -> None:
    catalog = _workspace(workspace).catalog
    page = catalog.list_documents_by_path("notes", 9)
    num_chunks = catalog.count_chunks([each.id for each in page])
    assert [(each.path, each.state, num_chunks.get(each.id, 0)) for each in page] == [
        ("a.md", "indexed", 1),
        ("b.md", "indexed", 1),
        ("c/bad.md", "failed", 0),
        ("c/Ä%_.md", "indexed", 1),
    ]
    assert [bool(each.error) for each in page] == [False, False, True, False]
    assert page[0].size == (workspace.root / "a.md").stat().st_size
    assert page[0].mtime_ns == (workspace.root / "a.md").stat().st_mtime_ns


def test_a_page_begins_behind_a_path_even_if_its_file_is_gone(workspace: Workspace) -> None:
    _workspace(workspace)
    assert _paths(workspace, limit=2) == "a.md b.md"
    assert _paths(workspace, limit=2, after="b.md") == "c/bad.md c/Ä%_.md"
    assert _paths(workspace, after="b.txt") == "c/bad.md c/Ä%_.md"
    assert _paths(workspace, after="c/Ä%_.md") == ""


def test_a_page_is_filtered_by_state_and_by_a_part_of_the_path(workspace: Workspace) -> None:
    _workspace(workspace)
    assert _paths(workspace, state="failed") == "c/bad.md"
    assert _paths(workspace, part="C/") == "c/bad.md c/Ä%_.md"
    assert _paths(workspace, part="%_") == "c/Ä%_.md", "nothing in it is a pattern"
    assert _paths(workspace, state="indexed", part="bad") == ""
    assert workspace.catalog.list_documents_by_path("others", 9) == []
    assert SqliteCatalog(workspace.data / "nowhere").list_documents_by_path("notes", 9) == []
