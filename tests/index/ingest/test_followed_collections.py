from pathlib import Path

import pytest

from index.ingest.followed_collections import FollowedCollections
from index.types import Collection
from index.uploads import UPLOADS


@pytest.fixture
def collections(tmp_path: Path) -> FollowedCollections:
    """Two watched folders, one in the other, and the data folder with the uploads in the outer one."""
    data = tmp_path / "outer" / "data"
    for folder in ("outer/inner", "outer/data/uploads", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    collections = FollowedCollections(data)
    collections.follow(
        [
            Collection("outer", tmp_path / "outer"),
            Collection("inner", tmp_path / "outer" / "inner"),
            Collection(UPLOADS, data / "uploads"),
        ],
        {"outer": 1, "inner": 2, UPLOADS: 3},
    )
    return collections


def _locate(collections: FollowedCollections, path: Path) -> tuple[list[tuple[str, str]], list[str]]:
    targets = collections.locate(path)
    return [(target.collection.name, target.path) for target in targets.paths], [each.name for each in targets.linked]


def test_a_path_lies_in_every_collection_around_it(collections: FollowedCollections, tmp_path: Path) -> None:
    path = tmp_path / "outer" / "inner" / "b" / "a.md"
    assert _locate(collections, path) == ([("outer", "inner/b/a.md"), ("inner", "b/a.md")], [])
    assert _locate(collections, tmp_path / "elsewhere" / "a.md") == ([], [])


def test_the_data_folder_belongs_to_managed_collections_alone(collections: FollowedCollections, tmp_path: Path) -> None:
    uploads = tmp_path / "outer" / "data" / "uploads"
    assert _locate(collections, uploads / "a.md") == ([(UPLOADS, "a.md")], [])
    assert _locate(collections, uploads.parent / "index.sqlite3") == ([], [])


def test_a_path_through_a_link_is_its_target_s_and_names_the_collections_that_may_miss_events(
    collections: FollowedCollections, tmp_path: Path
) -> None:
    link = tmp_path / "outer" / "link"
    link.symlink_to(tmp_path / "outer" / "inner")
    assert _locate(collections, link / "a.md") == ([("outer", "inner/a.md"), ("inner", "a.md")], ["outer", "inner"])
    assert _locate(collections, link) == ([("outer", "link")], ["outer", "inner"])


def test_collections_are_found_by_name(collections: FollowedCollections) -> None:
    assert [each.id for each in collections.select("inner")] == [2]
    assert [each.id for each in collections.select(None)] == [1, 2, 3]
    assert collections.select("none") == []
