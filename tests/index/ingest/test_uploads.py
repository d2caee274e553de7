"""Uploaded files: how they are cut, followed and searched."""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from index.errors import CollectionNotFound
from index.ingest.chunker import Chunker
from index.ingest.long_texts import embed_long_texts
from index.params import Chunking
from index.reading.readers import read
from index.types import Collection, FileSubset
from index.uploads import UPLOADS, UploadPath, display_path, uploads_folder
from tests.index.conftest import HashEmbedder, Workspace, eventually

_A, _B, _C = (f"file-{digit * 24}" for digit in "abc")


def _path(id: str, name: str = "a.md", chunking: Chunking | None = None) -> str:
    return str(UploadPath(chunking, id, name))


def _with_uploads(workspace: Workspace) -> Collection:
    uploads = Collection(UPLOADS, uploads_folder(workspace.data))
    uploads.root.mkdir(parents=True, exist_ok=True)
    workspace.start(Collection("notes", workspace.root), uploads)
    return uploads


@pytest.mark.parametrize("chunking", [None, Chunking(800, 400), Chunking(100, 0)])
def test_an_upload_path_is_parsed_as_it_was_written(chunking: Chunking | None) -> None:
    path = UploadPath(chunking, _A, "Größe 1.md")
    assert UploadPath.parse(str(path)) == path
    assert display_path(str(path)) == "Größe 1.md"


@pytest.mark.parametrize("path", ["a.md", f"auto/{_A}", f"auto/{_A}/b/c.md", f"1/{_A}/a.md", "auto/file-x/a.md"])
def test_other_paths_are_displayed_unchanged(path: str) -> None:
    assert UploadPath.parse(path) is None
    assert display_path(path) == path


@pytest.mark.parametrize("size, overlap", [(100, 0), (100, 50), (256, 10), (800, 400), (4096, 2048)])
def test_windows_cover_the_text_within_their_size_and_overlap(size: int, overlap: int) -> None:
    random.seed(size + overlap)
    words = [f"w{number}" for number in range(3000)]
    for _ in range(20):  # paragraphs and headings of all lengths
        at = random.randrange(len(words))
        words[at] += random.choice(["\n\n", "\n\n# Heading\n\n", ".\n\n## Part\n\n"])
    count = HashEmbedder().count_tokens
    parsed = read("a.md", " ".join(words).encode())
    chunks = Chunker(count, 128).chunks(parsed, Chunking(size, overlap))
    for chunk in chunks:
        assert chunk.text == parsed.text[chunk.start : chunk.end]
        assert count(chunk.text) <= size
    for before, after in pairwise(chunks):
        assert before.start < after.start and before.end < after.end
        assert count(parsed.text[after.start : before.end]) <= overlap
        assert count(parsed.text[before.start : after.end]) > size, "no window could have been larger"
    if overlap >= 50:
        shared = [count(parsed.text[b.start : a.end]) for a, b in pairwise(chunks)]
        assert all(each >= overlap / 2 for each in shared)
    words_of_chunks = {word for chunk in chunks for word in chunk.text.split()}
    assert {word for word in parsed.text.split() if word.startswith("w")} <= words_of_chunks


def test_a_window_has_the_headings_that_all_of_it_stands_under() -> None:
    parsed = read("a.md", b"# Leave\n\n## Sick\n\none\n\n## Parental\n\ntwo\n")
    (chunk,) = Chunker(HashEmbedder().count_tokens, 128).chunks(parsed, Chunking(100, 0))
    assert chunk.heading == ("Leave",)


def test_a_long_text_has_the_vector_of_all_its_parts() -> None:
    embedder = HashEmbedder()
    long = " ".join(["cat"] * 600 + ["dog"] * 600)
    cat, dog, short, whole = embed_long_texts(embedder, ["cat", "dog", "bird", long])
    assert whole @ cat > 0.4 and whole @ dog > 0.4
    assert (short == embedder.vectors(["bird"])[0]).all()


def test_uploads_are_searched_only_where_they_are_named(workspace: Workspace) -> None:
    uploads = _with_uploads(workspace)
    workspace.write("note.md", "The bicycle shed is green.")
    workspace.write(_path(_A), "The bicycle is red.", uploads.root)
    workspace.write(_path(_B), "The bicycle is blue.", uploads.root)
    workspace.sync()
    with workspace.retrieving() as search:
        assert [passage.file for passage in search("bicycle")] == ["notes/note.md"]
        everything = FileSubset(UPLOADS, frozenset([_path(_A), _path(_B)]))
        both = search("bicycle", collections=["notes", UPLOADS], subsets=[everything])
        assert len(both) == 3 and {passage.file for passage in both} == {"notes/note.md", "a.md"}
        for paths, texts in (
            ([_path(_A)], ["The bicycle is red."]),
            ([_path(_B), _path(_C)], ["The bicycle is blue."]),
            ([], []),
        ):
            subsets = [FileSubset(UPLOADS, frozenset(paths))]
            assert [passage.text for passage in search("bicycle", collections=[UPLOADS], subsets=subsets)] == texts
        mixed = search("bicycle", collections=["notes", UPLOADS], subsets=[FileSubset(UPLOADS, frozenset([_path(_B)]))])
        assert {passage.text for passage in mixed} == {"The bicycle shed is green.", "The bicycle is blue."}
        with pytest.raises(CollectionNotFound):
            search("bicycle", collections=[UPLOADS])
    assert [status.name for status in workspace.catalog.status()] == ["notes"]


def test_a_search_in_few_of_many_files_finds_the_best_among_them(workspace: Workspace) -> None:
    """More passages outside the subset rank better than there are candidates."""
    uploads = _with_uploads(workspace)
    ids = [f"file-{number:024x}" for number in range(300)]
    for number, id in enumerate(ids):
        text = f"tram tram tram number{number}" if number else "a tram, once, in a long text of its own"
        workspace.write(_path(id), text, uploads.root)
    workspace.sync()
    with workspace.retrieving() as search:
        passages = search("tram", collections=[UPLOADS], subsets=[FileSubset(UPLOADS, frozenset([_path(ids[0])]))])
    assert [each.text for each in passages] == ["a tram, once, in a long text of its own"]


def test_an_upload_is_cut_as_its_path_says_and_may_be_cut_in_several_ways(workspace: Workspace) -> None:
    uploads = _with_uploads(workspace)
    text = " ".join(f"word{number}" for number in range(1000))
    for chunking in (None, Chunking(100, 0), Chunking(400, 200)):
        workspace.write(_path(_A, chunking=chunking), text, uploads.root)
    workspace.sync()
    rows = workspace.rows(
        "SELECT path, count(*) FROM chunks JOIN documents ON documents.id = document_id GROUP BY path"
    )
    counts = dict(rows)
    assert counts[_path(_A, chunking=Chunking(100, 0))] >= 10
    assert 4 <= int(str(counts[_path(_A, chunking=Chunking(400, 200))])) <= 6
    assert 8 <= int(str(counts[_path(_A)])) <= 9


def test_many_uploads_may_be_deleted_at_once(workspace: Workspace) -> None:
    uploads = _with_uploads(workspace)
    paths = [_path(f"file-{number:024x}") for number in range(80)]
    for path in paths:
        workspace.write(path, f"text {path}", uploads.root)
    workspace.sync()
    assert len(workspace.texts(UPLOADS)) == 80
    for path in paths[5:]:
        (uploads.root / path).unlink()
    workspace.sync()
    assert sorted(workspace.texts(UPLOADS)) == sorted(paths[:5])


def test_events_in_the_data_folder_are_followed_for_uploads_alone(workspace: Workspace, tmp_path: Path) -> None:
    uploads = _with_uploads(workspace)
    source = tmp_path / "made" / "a.md"
    source.parent.mkdir()
    source.write_text("The tram leaves at nine.")
    workspace.params = workspace.params.__class__(settle_s=0.05, scan_interval_s=3600)
    with workspace.running(Collection("notes", tmp_path), uploads):
        target = uploads.root / _path(_A)
        target.parent.parent.mkdir()
        source.parent.rename(target.parent)
        eventually(lambda: workspace.texts(UPLOADS) == {_path(_A): "The tram leaves at nine."})
        target.unlink()
        target.parent.rmdir()
        eventually(lambda: workspace.texts(UPLOADS) == {})
        assert workspace.texts("notes") == {}, "nothing of the data folder is in a folder around it"
