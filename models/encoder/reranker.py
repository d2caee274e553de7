"""A question and passages to scores, by a cross-encoder: it reads both together. Optional; none is bundled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.encoder.exports import read_manifest
from models.encoder.messages import ModelFiles
from models.errors import ModelFileError


class Reranker(Protocol):
    """A loaded cross-encoder. Scores are on the model's own scale, 0..1 or logits; higher is better."""

    @property
    def has_probabilities(self) -> bool: ...
    def count_tokens(self, query: str, texts: Sequence[str]) -> list[int]:
        """Of each pair, as far as it is read."""

    def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]: ...


def open_reranker(files: ModelFiles, num_threads: int = 0) -> Reranker:
    """`num_threads` 0: the runtime's own choice. Raises `ModelFileError`."""
    if files.export is None:
        from models.encoder.reference import ReferenceReranker

        return ReferenceReranker(Path(files.path), num_threads)
    return ConvertedReranker(Path(files.export), files.source, num_threads)


class ConvertedReranker:
    """A conversion, as `models.encoder.exporter` makes it: the activation is in the graph."""

    def __init__(self, folder: Path, source: str, num_threads: int = 0) -> None:
        from models.encoder.graph import Graph

        manifest = read_manifest(folder, source)
        if manifest is None or manifest.refusal is not None:
            raise ModelFileError(folder, "the converted model was altered or removed")
        self._graph = Graph(folder, num_threads)
        self.has_probabilities = manifest.has_probabilities

    def count_tokens(self, query: str, texts: Sequence[str]) -> list[int]:
        return self._graph.count_tokens([(query, text) for text in texts])

    def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._graph.run([(query, text) for text in texts]).reshape(len(texts))
