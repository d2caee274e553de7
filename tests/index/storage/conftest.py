"""The storage of the contract tests, once for each implementation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.index.storage.contract import IMPLEMENTATIONS, Implementation, Storage


@pytest.fixture(params=IMPLEMENTATIONS, ids=lambda implementation: implementation.name)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    parameter: Implementation = request.param
    return parameter


@pytest.fixture
def storage(implementation: Implementation, tmp_path: Path) -> Iterator[Storage]:
    storage = Storage(implementation, tmp_path)
    yield storage
    storage.store.close()
