"""A switch to another embedding model over an existing index: searches meanwhile, and after kill -9."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from real_server import CACHE, Server, serving, wait_until

from tests.models.tiny_encoders import make_embedder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

_DOCUMENTS = 150
_QUESTION = "Where is the train to platform cab?"


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("embedder"), tmp_path_factory.mktemp("bert"))


@contextmanager
def _serving(folder: Path, embedder: str) -> Iterator[Server]:
    with serving(folder, folder / "docs", environment={"CLOISTER_EMBEDDER": embedder}) as server:
        yield server


def _cosines(server: Server) -> dict[int, float | None]:
    """Return the cosine of every hit by its chunk id."""
    with server.client() as http:
        response = http.post("/v1/search", json={"query": _QUESTION, "top_k": 50})
        assert response.status_code == 200, response.text
        return {each["chunk_id"]: each["similarity"] for each in response.json()["data"]}


def _status(server: Server, command: str | None = None) -> dict[str, Any]:
    with server.client() as http:
        response = http.post(f"/v1/index/{command}") if command else http.get("/v1/index/status")
        status: dict[str, Any] = response.json()
        return status


def test_the_old_space_answers_until_the_new_one_is_complete(tmp_path: Path, embedder: Path) -> None:
    (tmp_path / "docs").mkdir()
    for number in range(_DOCUMENTS):
        name = "".join("abcdefghij"[int(digit)] for digit in str(number))  # the small model knows letters
        text = f"# Train {name}\n\nThe {name} train leaves from platform {name * 3} when the water is high."
        (tmp_path / "docs" / f"{number}.md").write_text(text)
    with _serving(tmp_path, str(embedder)) as server:
        wait_until(lambda: server.status()["documents"] == _DOCUMENTS, 60, "all documents")
        assert _status(server)["switch"] is None
        before = _cosines(server)
        assert set(before.values()) != {None}
        _status(server, "pause")
        wait_until(lambda: _status(server)["activity"] == "paused", what="a paused indexer")

    exports = set(_exports())
    hidden = [embedder, *(path for path in exports if _is_tiny(path))]
    for path in hidden:
        path.rename(path.with_name(f"{path.name}.hidden"))
    try:
        with _serving(tmp_path, "all-MiniLM-L6-v2") as server:
            assert _status(server)["switch"]["answers_from"] == "words"
            by_words = _cosines(server)
            assert by_words
            assert set(by_words.values()) == {None}
            assert "by their words alone" in server.log.read_text()
    finally:
        for path in hidden:
            path.with_name(f"{path.name}.hidden").rename(path)

    with _serving(tmp_path, "all-MiniLM-L6-v2") as server:
        assert _status(server)["switch"] == {"done": None, "total": None, "answers_from": "former"}
        assert _cosines(server) == before
        _status(server, "resume")
        wait_until(lambda: (_status(server)["switch"] or {"done": 1})["done"], what="the first vectors")
        for _ in range(2):
            indexer = server.child("server.resources.indexer")
            assert indexer is not None
            os.kill(indexer, signal.SIGKILL)
            wait_until(
                lambda killed=indexer: server.child("server.resources.indexer") not in (None, killed), 30, "another one"
            )
            if _status(server)["switch"]:
                assert _cosines(server) == before
        server.process.kill()
        server.process.wait()

    with _serving(tmp_path, "all-MiniLM-L6-v2") as server:
        wait_until(lambda: _status(server)["switch"] is None, 60, "the new space")
        after = _cosines(server)
        assert set(after.values()) != {None}
        assert after != before
        wait_until(lambda: _status(server)["activity"] == "idle", 30, "rest")
        assert server.status()["documents"] == _DOCUMENTS


def _exports() -> Iterator[Path]:
    return (path for path in (CACHE / "models").iterdir() if (path / "manifest").exists())


def _is_tiny(path: Path) -> bool:
    """Return whether this is a conversion of the model with random weights, by the size of its graph."""
    graph = path / "model.onnx"
    return graph.is_file() and graph.stat().st_size < 2_000_000
