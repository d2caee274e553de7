"""The documentation's map of the code, compared with the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("server", "models", "index")
PATH = re.compile(r"`((?:server|models|index|tests|scripts|docs)/[a-z_/.0-9-]+)`")


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_each_path_that_a_page_names_exists(page: str) -> None:
    paths = set(PATH.findall((ROOT / page).read_text()))
    assert paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_the_map_names_every_folder_of_the_code() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    folders = {path.parent.relative_to(ROOT).as_posix() for top in TOPS for path in ROOT.glob(f"{top}/*/*.py")}
    assert [folder for folder in sorted(folders) if f"`{folder}" not in page] == []
