"""One server for all tests that leave it as they found it."""

from collections.abc import Iterator

import pytest
from running import Server, serving, write_handbook


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, write_handbook(folder / "handbook")) as running:
        yield running
