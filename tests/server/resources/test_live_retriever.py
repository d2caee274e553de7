"""The space that is searched while the embedding model changes, with scripted models."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from index.types import Passage, Query, Vectors
from models.encoder.client import EncoderClient
from models.encoder.messages import EmbedderInfo, EncoderReady
from models.errors import ProcessFailed
from server.resources.live_retriever import LiveRetriever
from tests.index.conftest import HashEmbedder, Workspace, eventually

OLD, NEW = HashEmbedder("hash-a", 64), HashEmbedder("hash-b", 32)


class FakeEncoder:
    """An encoder with the new model, and with the old one if `has_previous`."""

    def __init__(self, *, has_previous: bool) -> None:
        previous = EmbedderInfo(OLD.fingerprint, OLD.dimension) if has_previous else None
        self.ready = EncoderReady(NEW.dimension, NEW.fingerprint, 512, has_reranker=False, previous=previous)
        self.has_forgotten = False

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return NEW.vectors(texts)

    async def embed_queries_with_previous(self, texts: Sequence[str]) -> Vectors:
        assert not self.has_forgotten
        return OLD.vectors(texts)

    async def unload_previous(self) -> None:
        self.has_forgotten = True


@pytest.fixture
def workspace_of_old_model(tmp_path: Path) -> Iterator[Workspace]:
    """Yield a workspace that the old model has indexed and the new one has not."""
    workspace = Workspace(tmp_path)
    for number in range(10):
        workspace.write(f"{number}.md", f"item{number} everywhere")
    workspace.embedder = OLD
    workspace.sync()
    workspace.embedder = NEW
    workspace.start()
    yield workspace
    workspace.close()


def _complete(workspace: Workspace) -> None:
    eventually(lambda: not workspace.indexer.follow_embedder() and not workspace.indexer.upkeep.is_building_space)


def _searching(workspace: Workspace, encoder: FakeEncoder) -> LiveRetriever:
    return LiveRetriever(workspace.data, lambda: cast(EncoderClient, encoder), cast(Any, None))


async def _find(live: LiveRetriever) -> list[Passage]:
    return await live.current().search([Query("item7")], live.embedder(), 20)


def _expected_cosine(embedder: HashEmbedder) -> float:
    question, text = embedder.vectors(["item7", "item7 everywhere"])
    return float(question @ text)


def _cosine(passages: list[Passage]) -> float | None:
    assert passages[0].path == "7.md"
    return passages[0].similarity


def test_the_previous_space_is_searched_until_the_new_one_is_complete(
    workspace_of_old_model: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = FakeEncoder(has_previous=True)
    live = _searching(workspace_of_old_model, encoder)

    async def run() -> None:
        before = await _find(live)
        assert live.is_in_previous_space
        assert not live.is_by_words_alone
        assert _cosine(before) == pytest.approx(_expected_cosine(OLD), abs=1e-3)
        await live.follow()
        began = live.current(), live.embedder()
        _complete(workspace_of_old_model)
        assert _cosine(await _find(live)) == _cosine(before), "as long as nobody has looked"
        await live.follow()
        assert not live.is_in_previous_space
        assert live.current() is not began[0]
        after = await _find(live)
        assert _cosine(after) == pytest.approx(_expected_cosine(NEW), abs=1e-3)
        assert _cosine(await began[0].search([Query("item7")], began[1], 20)) == _cosine(before), (
            "what had begun goes on"
        )
        assert not encoder.has_forgotten
        in_a_minute = time.monotonic() + 61
        monkeypatch.setattr("server.resources.live_retriever.time.monotonic", lambda: in_a_minute)
        await live.follow()
        assert encoder.has_forgotten
        with pytest.raises(RuntimeError):
            await began[0].search([Query("item7")], live.embedder(), 20)

    try:
        asyncio.run(run())
    finally:
        live.close()


def test_without_the_previous_model_search_uses_words_alone(
    workspace_of_old_model: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    live = _searching(workspace_of_old_model, FakeEncoder(has_previous=False))

    async def run() -> None:
        assert [(p.path, p.similarity) for p in await _find(live)] == [("7.md", None)]
        assert (live.is_in_previous_space, live.is_by_words_alone) == (True, True)
        _complete(workspace_of_old_model)
        await live.follow()
        assert _cosine(await _find(live)) is not None
        assert len(await _find(live)) == 10
        assert (live.is_in_previous_space, live.is_by_words_alone) == (False, False)

    try:
        asyncio.run(run())
    finally:
        live.close()
    assert "by their words alone" in caplog.text


def test_search_fails_then_recovers_when_the_encoder_restarts_without_the_previous_model(
    workspace_of_old_model: Workspace,
) -> None:
    encoders = [FakeEncoder(has_previous=True)]
    live = LiveRetriever(workspace_of_old_model.data, lambda: cast(EncoderClient, encoders[-1]), cast(Any, None))

    async def run() -> None:
        assert _cosine(await _find(live)) is not None
        encoders.append(FakeEncoder(has_previous=False))
        with pytest.raises(ProcessFailed, match="without the previous"):
            await _find(live)
        await live.follow()
        assert _cosine(await _find(live)) is None

    try:
        asyncio.run(run())
    finally:
        live.close()
