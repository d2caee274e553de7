"""Converts a sentence-transformers model for onnxruntime. `python -m models.encoder.exporter FD`.

A process of its own, so that nobody who serves keeps torch in memory.
The whole pipeline is traced, pooling and normalization included. The int8 form is tried first, then float32; what is
kept must agree with sentence-transformers on sample texts, run by the very code that will serve it.
"""

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.encoder.embedder import ConvertedEmbedder
from models.encoder.exports import (
    GRAPH,
    TOKENIZER,
    EncoderTask,
    ExportManifest,
    Precision,
    locked,
    read_manifest,
    replacing,
    runtime,
    write_manifest,
)
from models.encoder.messages import Convert, Converted
from models.encoder.reference import ReferenceEmbedder, ReferenceReranker
from models.encoder.reranker import ConvertedReranker
from models.errors import ModelFileError
from models.folder import sha256_of
from models.ipc import Inbox, child_main

_OPSET = 17
_LARGEST = 1_900_000_000  # bytes of weights; a graph in one file ends at 2 GiB
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_PARTS = {"Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "WordWeights", "LogitScore"}
_LEAST_COSINE = 0.98
_LARGEST_DIFFERENCE = 0.05  # of a score, as a share of the scores' range

# Short and long, plain and odd; the last is longer than most models read.
_SAMPLES = (
    "How long is parental leave?",
    "Parental leave is sixteen weeks with full pay, for mothers and fathers alike.",
    "rust",
    "Iron rusts where water and air reach it; paint or zinc keeps both away.",
    "def area(radius: float) -> float:\n    return math.pi * radius**2",
    "| Year | Revenue | Margin |\n| --- | --- | --- |\n| 2024 | 1,204.5 | 31 % |",
    "Die Kündigungsfrist beträgt drei Monate zum Monatsende.",
    "会议定于星期三上午十点在二楼举行。 Привет! ¿Qué tal? 🙂",
    "  The train leaves at 9:15,\n\tplatform 4.  ",
    "Shock waves form where a supersonic flow meets a blunt body, and the boundary layer behind them thickens. " * 4,
    "Every invoice names its number, its date, the tax, and the address of whoever pays it. " * 40,
)
_QUESTION = _SAMPLES[0]


class _Refused(Exception):
    """The model cannot be converted; its first argument says why."""


def convert(path: Path, source: str, export: Path, role: EncoderTask) -> None:
    """Fills `export` with a conversion or a refusal. Raises `ModelFileError` when the model itself cannot be loaded."""
    with locked(export):
        if read_manifest(export, source) is not None:
            return
        reference = ReferenceEmbedder(path, source) if role == "embedding" else ReferenceReranker(path)
        with replacing(export) as folder:
            try:
                write_manifest(folder, _converted(reference, source, folder))
            except _Refused as refused:
                for file in folder.iterdir():
                    file.unlink()
                write_manifest(folder, ExportManifest(source=source, runtime=runtime(), refusal=str(refused)))


def _converted(reference: ReferenceEmbedder | ReferenceReranker, source: str, folder: Path) -> ExportManifest:
    """Writes the files of the first precision that passes its check. Raises `_Refused`."""
    _require_convertible(reference.model)
    whole = folder / "whole.onnx"
    with _refusing("it cannot be traced"), _quiet():
        _save_tokenizer(reference.model, folder / TOKENIZER)
        _trace(reference, whole)
    reasons = []
    for precision, write in _PRECISIONS.items():
        with _refusing("it cannot be quantized"), _quiet():
            write(whole, folder / GRAPH)
        manifest = _manifest(reference, source, folder, precision)
        write_manifest(folder, manifest)
        if (reason := _difference(reference, source, folder)) is None:
            whole.unlink(missing_ok=True)
            return manifest
        reasons.append(f"{precision}: {reason}")
    raise _Refused("; ".join(reasons))


def _require_convertible(model: Any) -> None:
    for part in model:
        if type(part).__name__ not in _PARTS:
            raise _Refused(f"it has a part of the kind {type(part).__name__}")
        if not getattr(part, "include_prompt", True):
            raise _Refused("its pooling leaves the prompt out")
    if not getattr(model.tokenizer, "is_fast", False):
        raise _Refused("its tokenizer has no tokenizer.json form")
    if sum(weights.nbytes for weights in model.parameters()) > _LARGEST:
        raise _Refused("its weights do not fit into one ONNX file")


def _save_tokenizer(model: Any, file: Path) -> None:
    tokenizer = model.tokenizer.backend_tokenizer
    tokenizer.no_padding()
    tokenizer.enable_truncation(_max_tokens(model))
    tokenizer.save(str(file))


def _max_tokens(model: Any) -> int:
    return int(getattr(model, "max_seq_length", None) or getattr(model, "max_length", None) or 512)


class _Pipeline(torch.nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A model's parts in a row, with tensors in and one tensor out, as the tracer wants it."""

    def __init__(self, reference: ReferenceEmbedder | ReferenceReranker, names: list[str]) -> None:
        super().__init__()
        self.model = reference.model
        self._names = names
        self._is_embedder = isinstance(reference, ReferenceEmbedder)

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        found = self.model({**dict(zip(self._names, features, strict=True)), "modality": "text"})
        if not self._is_embedder:
            return self.model.activation_fn(found["scores"].float()).reshape(-1)
        vectors = found["sentence_embedding"][:, : self.model.get_embedding_dimension()]
        return torch.nn.functional.normalize(vectors, dim=1)


def _trace(reference: ReferenceEmbedder | ReferenceReranker, file: Path) -> None:
    model = reference.model.float().eval()
    features = model.preprocess([_SAMPLES[1]] if isinstance(reference, ReferenceEmbedder) else [list(_SAMPLES[:2])])
    names = [name for name in _INPUTS if name in features]
    torch.onnx.export(
        _Pipeline(reference, names),
        tuple(features[name] for name in names),
        str(file),
        input_names=names,
        output_names=["values"],
        dynamic_axes={name: {0: "texts", 1: "tokens"} for name in names} | {"values": {0: "texts"}},
        opset_version=_OPSET,
        dynamo=False,  # the tracer that needs no further package; a second or two
    )


def _write_int8(whole: Path, graph: Path) -> None:
    quantize_dynamic(
        whole, graph, op_types_to_quantize=["MatMul", "Gather"], per_channel=True, weight_type=QuantType.QInt8
    )


_PRECISIONS: dict[Precision, Callable[[Path, Path], object]] = {
    "int8": _write_int8,
    "float32": lambda whole, graph: whole.replace(graph),
}


def _manifest(
    reference: ReferenceEmbedder | ReferenceReranker, source: str, folder: Path, precision: Precision
) -> ExportManifest:
    manifest = ExportManifest(
        source=source,
        runtime=runtime(),
        sha256={name: sha256_of(folder / name) for name in (GRAPH, TOKENIZER)},
        precision=precision,
        max_tokens=_max_tokens(reference.model),
    )
    if isinstance(reference, ReferenceReranker):
        return msgspec.structs.replace(manifest, has_probabilities=reference.has_probabilities)
    return msgspec.structs.replace(
        manifest,
        dimension=reference.dimension,
        query_prompt=reference.query_prompt,
        document_prompt=reference.document_prompt,
    )


def _difference(reference: ReferenceEmbedder | ReferenceReranker, source: str, folder: Path) -> str | None:
    """Why the conversion in `folder` is not the model; None when it is."""
    try:
        if isinstance(reference, ReferenceReranker):
            return _difference_of_scores(reference, ConvertedReranker(folder, source))
        return _difference_of_vectors(reference, ConvertedEmbedder(folder, source))
    except Exception as error:  # whatever the runtime raises for this graph: it is not the model
        return (str(error).splitlines() or [type(error).__name__])[0]


def _difference_of_vectors(reference: ReferenceEmbedder, converted: ConvertedEmbedder) -> str | None:
    def least(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
        return float(np.min(np.sum(ours * theirs, axis=1)))

    cosine = min(
        least(converted.embed_documents(_SAMPLES), reference.embed_documents(_SAMPLES)),
        least(converted.embed_queries(_SAMPLES), reference.embed_queries(_SAMPLES)),
    )
    return None if cosine >= _LEAST_COSINE else f"its vectors differ, cosine {cosine:.3f}"


def _difference_of_scores(reference: ReferenceReranker, converted: ConvertedReranker) -> str | None:
    theirs = reference.rerank(_QUESTION, _SAMPLES)
    share = float(np.max(np.abs(converted.rerank(_QUESTION, _SAMPLES) - theirs)) / max(np.ptp(theirs), 1e-9))
    return None if share <= _LARGEST_DIFFERENCE else f"its scores differ by {share:.0%} of their range"


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Whatever the tracer or the quantizer raises becomes a refusal; a full disk does not."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise _Refused(f"{what}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The libraries warn about their own insides, to users who can do nothing about it."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _serve(inbox: Inbox[Convert]) -> None:
    asked = next(iter(inbox), None)
    if asked is None:
        return
    threading.Thread(target=_leave_with, args=(inbox.closed,), daemon=True).start()
    try:
        convert(Path(asked.path), asked.source, Path(asked.export), asked.role)
    except ModelFileError as error:
        inbox.send(Converted(error.reason))
    else:
        inbox.send(Converted())


def _leave_with(closed: threading.Event) -> None:
    """Nobody waits for the conversion any more; what there is of it is swept up by the next."""
    closed.wait()
    os._exit(1)


if __name__ == "__main__":
    child_main(_serve, Convert)
