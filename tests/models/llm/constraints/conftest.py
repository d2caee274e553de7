"""Fixtures: real vocabularies."""

from collections.abc import Iterator

import pytest

from tests.models.llm.constraints.vocabularies import BUILTIN, PATHS, Model, load_model


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem.removeprefix("ggml-vocab-"))
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    yield from load_model(request.param)


@pytest.fixture(scope="module")
def builtin() -> Iterator[Model]:
    yield from load_model(BUILTIN)
