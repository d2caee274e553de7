"""Conversions of tiny models with random weights, in this process; and the exporter process, killed."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.catalog import ResolvedModel
from models.encoder import conversion
from models.encoder.embedder import OnnxEmbedder
from models.encoder.exports import Precision, read_manifest, source_of
from models.encoder.messages import Convert, FromExporter
from models.encoder.model_exports import ModelExports
from models.encoder.torch_models import TorchEmbedder
from models.errors import ModelFileError
from models.ipc import open_child
from models.offline import OFFLINE

pytestmark = pytest.mark.timeout(120)

TEXTS = ["how long is parental leave?", "rust", "iron, water and air", "weeks with full pay " * 40, ""]
no_graph: Callable[[Path, Path], object] = lambda whole, graph: graph.write_bytes(b"no graph")  # noqa: E731


def copy_with_edit(folder: Path, copy: Path, name: str, old: str, new: str) -> Path:
    shutil.copytree(folder, copy)
    text = (copy / name).read_text()
    assert old in text
    (copy / name).write_text(text.replace(old, new))
    return copy


def test_a_conversion_has_the_reference_s_vectors_prompts_and_token_counts(tiny_embedder: Path, tmp_path: Path) -> None:
    source, export = source_of(tiny_embedder, "embedding"), tmp_path / "models" / "tiny"
    conversion.convert(tiny_embedder, source, export, "embedding")
    converted, reference = OnnxEmbedder(export, source), TorchEmbedder(tiny_embedder, source)
    assert (converted.dimension, converted.max_tokens) == (reference.dimension, reference.max_tokens) == (16, 48)
    for ours, theirs in (
        (converted.embed_queries(TEXTS), reference.embed_queries(TEXTS)),
        (converted.embed_documents(TEXTS), reference.embed_documents(TEXTS)),
    ):
        assert ours.shape == (len(TEXTS), 16)
        assert np.min(np.sum(ours * theirs, axis=1)) > 0.99
    assert np.max(np.sum(converted.embed_queries(TEXTS[1:2]) * converted.embed_documents(TEXTS[1:2]), axis=1)) < 0.98
    assert converted.embed_documents([]).shape == (0, 16)
    for text in TEXTS:
        assert converted.count_tokens(text) == reference.count_tokens(text)
    assert {file.name for file in export.iterdir()} == {"manifest", "model.onnx", "tokenizer.json"}


def test_the_manifest_keeps_the_model_s_prompts(tiny_embedder: Path, tmp_path: Path) -> None:
    source, export = source_of(tiny_embedder, "embedding"), tmp_path / "models" / "tiny"
    conversion.convert(tiny_embedder, source, export, "embedding")
    manifest = read_manifest(export, source)
    assert manifest is not None
    assert (manifest.precision, manifest.query_prompt, manifest.document_prompt) == (
        "int8",
        "how long: ",
        "rust, water: ",
    )


@pytest.mark.parametrize("working_precision", ["float32", None])
def test_a_precision_that_disagrees_with_the_reference_is_not_kept(
    tiny_embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, working_precision: Precision | None
) -> None:
    for precision in conversion._PRECISIONS:
        if precision != working_precision:
            monkeypatch.setitem(conversion._PRECISIONS, precision, no_graph)
    source, export = source_of(tiny_embedder, "embedding"), tmp_path / "models" / "tiny"
    conversion.convert(tiny_embedder, source, export, "embedding")
    manifest = read_manifest(export, source)
    assert manifest is not None
    if working_precision:
        assert (manifest.precision, manifest.refusal) == (working_precision, None)
        converted, reference = OnnxEmbedder(export, source), TorchEmbedder(tiny_embedder, source)
        assert converted.fingerprint == reference.fingerprint  # one vector space on both runtimes
        assert np.allclose(converted.embed_queries(TEXTS), reference.embed_queries(TEXTS), atol=1e-4)
    else:
        assert manifest.refusal is not None
        assert [file.name for file in export.iterdir()] == ["manifest"]


def test_two_concurrent_converters_convert_once(
    tiny_embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, export = source_of(tiny_embedder, "embedding"), tmp_path / "models" / "tiny"
    calls, convert = [], conversion._write_conversion
    monkeypatch.setattr(conversion, "_write_conversion", lambda *arguments: calls.append(1) or convert(*arguments))
    threads = [
        threading.Thread(target=conversion.convert, args=(tiny_embedder, source, export, "embedding")) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]
    assert read_manifest(export, source) is not None


def test_a_model_that_cannot_be_converted_runs_on_sentence_transformers(
    tiny_embedder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = copy_with_edit(
        tiny_embedder, tmp_path / "odd", "1_Pooling/config.json", '"include_prompt": true', '"include_prompt": false'
    )
    model = ResolvedModel("odd", odd, None)
    conversion.convert(odd, source_of(odd, "embedding"), tmp_path / "models" / source_of(odd, "embedding"), "embedding")

    async def files(runtime: str) -> str | None:
        return (await ModelExports(tmp_path, runtime).files(model, "embedding")).export

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(files("auto")) is None
    assert "odd runs on sentence-transformers, not onnxruntime: its pooling leaves the prompt out" in caplog.text
    assert asyncio.run(files("torch")) is None
    with pytest.raises(ModelFileError, match="leaves the prompt out"):
        asyncio.run(files("onnx"))


def test_a_killed_exporter_leaves_no_partial_export_and_an_altered_export_is_made_again(
    tiny_embedder: Path, tmp_path: Path
) -> None:
    source = source_of(tiny_embedder, "embedding")
    export = tmp_path / "models" / source
    model = ResolvedModel("tiny", tiny_embedder, None)
    converted_names: list[str] = []

    async def kill_exporter() -> None:
        async with open_child("exporter", "models.encoder.exporter", FromExporter, OFFLINE) as child:
            await child.send(Convert(str(tiny_embedder), source, str(export), "embedding"))
            while not (export.with_name(f"{source}.partial") / "tokenizer.json").exists():
                await asyncio.sleep(0.0005)
            os.kill(child.pid, signal.SIGKILL)

    async def prepare() -> None:
        files = await ModelExports(tmp_path, on_convert=converted_names.append).files(model, "embedding")
        assert files.export == str(export)
        assert read_manifest(export, source) is not None

    asyncio.run(kill_exporter())
    assert not export.exists()
    export.mkdir()
    (export / "model.onnx").write_bytes(b"not this model")
    asyncio.run(prepare())
    assert converted_names == ["tiny"]
    asyncio.run(prepare())
    assert converted_names == ["tiny"], "nothing is converted twice"
    assert {path.name for path in export.parent.iterdir()} == {source, f"{source}.lock"}


def test_an_unwritable_cache_is_logged_and_the_model_runs_on_sentence_transformers(
    tiny_embedder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    files = asyncio.run(ModelExports(tmp_path).files(ResolvedModel("tiny", tiny_embedder, None), "embedding"))
    assert files.export is None
    assert "tiny runs on sentence-transformers" in caplog.text


def test_a_converted_model_runs_without_torch(tiny_embedder: Path, tmp_path: Path) -> None:
    source, export = source_of(tiny_embedder, "embedding"), tmp_path / "models" / "tiny"
    conversion.convert(tiny_embedder, source, export, "embedding")
    code = (
        "import sys, models.encoder.process\n"
        "from models.encoder.embedder import open_embedder\n"
        "from models.encoder.messages import ModelFiles\n"
        f"open_embedder(ModelFiles('', {source!r}, {str(export)!r})).embed_queries(['rust'])\n"
        "print(*{'torch', 'transformers', 'sentence_transformers', 'onnx', 'onnxruntime'} & sys.modules.keys())"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["onnxruntime"]
