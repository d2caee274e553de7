"""Convert a sentence-transformers model for onnxruntime. Imports torch; runs in `models.encoder.exporter`'s process.

The whole pipeline is traced, pooling and normalization included. The int8 form is tried first, then float32. The form
that is kept agrees with sentence-transformers on sample texts, computed by the code that will serve it.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.encoder.embedder import OnnxEmbedder
from models.encoder.exports import (
    GRAPH,
    TOKENIZER,
    EncoderTask,
    ExportManifest,
    Precision,
    lock_export,
    read_manifest,
    replace_export,
    runtime,
    write_manifest,
)
from models.encoder.reranker import OnnxReranker
from models.encoder.torch_models import TorchEmbedder, TorchReranker
from models.folder import sha256_of

_OPSET = 17
_MAX_WEIGHTS_BYTES = 1_900_000_000  # an ONNX graph in one file is at most 2 GiB
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_MODULES = {"Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "WordWeights", "LogitScore"}
_MIN_COSINE = 0.98  # between a vector of the conversion and the reference's
_MAX_DIFFERENCE = 0.05  # of a score, as a share of the scores' range

# Short and long, plain and unusual texts; the last is longer than most models read.
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
_QUERY = _SAMPLES[0]


class _ConversionError(Exception):
    """The model cannot be converted; the first argument says why."""


def convert(path: Path, source: str, export: Path, task: EncoderTask) -> None:
    """Fill `export` with a conversion or a refusal. Raises `ModelFileError` when the model itself cannot be loaded."""
    with lock_export(export):
        if read_manifest(export, source) is not None:
            return
        reference = TorchEmbedder(path, source) if task == "embedding" else TorchReranker(path)
        with replace_export(export) as folder:
            try:
                write_manifest(folder, _write_conversion(reference, source, folder))
            except _ConversionError as error:
                for file in folder.iterdir():
                    file.unlink()
                write_manifest(folder, ExportManifest(source=source, runtime=runtime(), refusal=str(error)))


def _write_conversion(reference: TorchEmbedder | TorchReranker, source: str, folder: Path) -> ExportManifest:
    """Write the files of the first precision that agrees with the reference. Raises `_ConversionError`."""
    _require_convertible(reference.model)
    whole = folder / "whole.onnx"
    with _conversion_errors("it cannot be traced"), _silence_libraries():
        _save_tokenizer(reference.model, folder / TOKENIZER)
        _trace(reference, whole)
    reasons = []
    for precision, write in _PRECISIONS.items():
        with _conversion_errors("it cannot be quantized"), _silence_libraries():
            write(whole, folder / GRAPH)
        manifest = _manifest(reference, source, folder, precision)
        write_manifest(folder, manifest)
        if (reason := _disagreement(reference, source, folder)) is None:
            whole.unlink(missing_ok=True)
            return manifest
        reasons.append(f"{precision}: {reason}")
    raise _ConversionError("; ".join(reasons))


def _require_convertible(model: Any) -> None:
    for module in model:
        if type(module).__name__ not in _MODULES:
            raise _ConversionError(f"it has a module of the kind {type(module).__name__}")
        if not getattr(module, "include_prompt", True):
            raise _ConversionError("its pooling leaves the prompt out")
    if not getattr(model.tokenizer, "is_fast", False):
        raise _ConversionError("its tokenizer has no tokenizer.json form")
    if sum(weights.nbytes for weights in model.parameters()) > _MAX_WEIGHTS_BYTES:
        raise _ConversionError("its weights do not fit into one ONNX file")


def _save_tokenizer(model: Any, file: Path) -> None:
    tokenizer = model.tokenizer.backend_tokenizer
    tokenizer.no_padding()
    tokenizer.enable_truncation(_max_tokens(model))
    tokenizer.save(str(file))


def _max_tokens(model: Any) -> int:
    return int(getattr(model, "max_seq_length", None) or getattr(model, "max_length", None) or 512)


class _Pipeline(torch.nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A model's modules in a row, with tensors in and one tensor out, as the tracer wants it."""

    def __init__(self, reference: TorchEmbedder | TorchReranker, names: list[str]) -> None:
        super().__init__()
        self.model = reference.model
        self._names = names
        self._is_embedder = isinstance(reference, TorchEmbedder)

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        outputs = self.model({**dict(zip(self._names, features, strict=True)), "modality": "text"})
        if not self._is_embedder:
            return self.model.activation_fn(outputs["scores"].float()).reshape(-1)
        vectors = outputs["sentence_embedding"][:, : self.model.get_embedding_dimension()]
        return torch.nn.functional.normalize(vectors, dim=1)


def _trace(reference: TorchEmbedder | TorchReranker, file: Path) -> None:
    model = reference.model.float().eval()
    features = model.preprocess([_SAMPLES[1]] if isinstance(reference, TorchEmbedder) else [list(_SAMPLES[:2])])
    names = [name for name in _INPUTS if name in features]
    torch.onnx.export(
        _Pipeline(reference, names),
        tuple(features[name] for name in names),
        str(file),
        input_names=names,
        output_names=["values"],
        dynamic_axes={name: {0: "texts", 1: "tokens"} for name in names} | {"values": {0: "texts"}},
        opset_version=_OPSET,
        dynamo=False,  # the tracer that needs no further package; it takes a second or two
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
    reference: TorchEmbedder | TorchReranker, source: str, folder: Path, precision: Precision
) -> ExportManifest:
    manifest = ExportManifest(
        source=source,
        runtime=runtime(),
        sha256={name: sha256_of(folder / name) for name in (GRAPH, TOKENIZER)},
        precision=precision,
        max_tokens=_max_tokens(reference.model),
    )
    if isinstance(reference, TorchReranker):
        return msgspec.structs.replace(manifest, has_probabilities=reference.has_probabilities)
    return msgspec.structs.replace(
        manifest,
        dimension=reference.dimension,
        query_prompt=reference.query_prompt,
        document_prompt=reference.document_prompt,
    )


def _disagreement(reference: TorchEmbedder | TorchReranker, source: str, folder: Path) -> str | None:
    """Return how the conversion in `folder` differs from the reference; None when they agree."""
    try:
        if isinstance(reference, TorchReranker):
            return _score_disagreement(reference, OnnxReranker(folder, source))
        return _vector_disagreement(reference, OnnxEmbedder(folder, source))
    except Exception as error:  # whatever the runtime raises for this graph counts as a difference
        return (str(error).splitlines() or [type(error).__name__])[0]


def _vector_disagreement(reference: TorchEmbedder, converted: OnnxEmbedder) -> str | None:
    def min_cosine(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
        return float(np.min(np.sum(ours * theirs, axis=1)))

    cosine = min(
        min_cosine(converted.embed_documents(_SAMPLES), reference.embed_documents(_SAMPLES)),
        min_cosine(converted.embed_queries(_SAMPLES), reference.embed_queries(_SAMPLES)),
    )
    return None if cosine >= _MIN_COSINE else f"its vectors differ, cosine {cosine:.3f}"


def _score_disagreement(reference: TorchReranker, converted: OnnxReranker) -> str | None:
    theirs = reference.rerank(_QUERY, _SAMPLES)
    share = float(np.max(np.abs(converted.rerank(_QUERY, _SAMPLES) - theirs)) / max(np.ptp(theirs), 1e-9))
    return None if share <= _MAX_DIFFERENCE else f"its scores differ by {share:.0%} of their range"


@contextlib.contextmanager
def _conversion_errors(what: str) -> Iterator[None]:
    """Turn what the tracer or the quantizer raises into a `_ConversionError`, but not the errors of a full disk."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # exporters raise errors of any kind about models that they cannot convert
        raise _ConversionError(f"{what}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error


@contextlib.contextmanager
def _silence_libraries() -> Iterator[None]:
    """Turn off the libraries' warnings about their own internals, which users can do nothing about."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
