import logging
from pathlib import Path

import pytest

from index.ingest.files import is_indexable, list_files


def _make(root: Path, ignore: dict[str, str], paths: list[str]) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    for folder, rules in ignore.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / ".cloisterignore").write_text(rules)


@pytest.mark.parametrize(
    ("ignore", "included", "excluded"),
    [
        ({"": "*.txt"}, ["a.md", "b/a.md"], ["a.txt", "b/a.txt"]),
        ({"": "/a.md"}, ["b/a.md"], ["a.md"]),
        ({"": "drafts/"}, ["drafts.md", "b/a.md"], ["drafts/a.md", "b/drafts/c/a.md"]),
        ({"": "*.md\n!keep.md"}, ["keep.md", "b/keep.md"], ["a.md"]),
        ({"": "drafts/\n!drafts/keep.md"}, [], ["drafts/keep.md"]),  # git's rule: what is in an ignored folder stays so
        ({"": "*.md", "b": "!a.md"}, ["b/a.md", "b/c/a.md"], ["a.md", "b/b.md"]),
        ({"b": "/a.md"}, ["a.md", "b/c/a.md"], ["b/a.md"]),
        ({"": "# a comment\n\n**/c/*.md\n"}, ["a.md"], ["b/c/a.md", "c/a.md"]),
        ({"": "!\n*.txt"}, ["a.md"], ["a.txt"]),  # a line that means nothing
        ({"": "\ufeffa.md"}, ["b.md"], ["a.md"]),
    ],
)
def test_ignore_files_exclude_what_their_patterns_match(
    tmp_path: Path, ignore: dict[str, str], included: list[str], excluded: list[str]
) -> None:
    _make(tmp_path, ignore, included + excluded)
    assert sorted(path for path, _ in list_files(tmp_path).files) == sorted(included)
    assert {path: is_indexable(tmp_path, path) for path in included + excluded} == {
        path: path in included for path in included + excluded
    }
    for folder in {path.rpartition("/")[0] for path in included + excluded}:
        below = f"{folder}/" if folder else ""
        assert sorted(path for path, _ in list_files(tmp_path, folder).files) == sorted(
            path for path in included if path.startswith(below)
        )


def test_a_folder_whose_ignore_file_cannot_be_read_is_unlisted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _make(tmp_path, {}, ["a.md", "b/a.md"])
    (tmp_path / "b" / ".cloisterignore").mkdir()
    with caplog.at_level(logging.WARNING):
        listing = list_files(tmp_path)
    assert ([path for path, _ in listing.files], listing.unlisted) == (["a.md"], ["b"])
    with pytest.raises(IsADirectoryError):
        is_indexable(tmp_path, "b/a.md")
