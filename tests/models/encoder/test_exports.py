import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from models.encoder.exports import (
    ExportManifest,
    fingerprint_of,
    lock_export,
    read_manifest,
    replace_export,
    runtime,
    source_of,
    write_manifest,
)
from models.errors import ModelFileError
from models.folder import sha256_of

FILES = {
    "model.safetensors": "weights",
    "config.json": "{}",
    "vocab.txt": "a b",
    "1_Pooling/config.json": "{}",
    "2_Dense/model.safetensors": "dense",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "cache" / "models" / "source"
    folder.mkdir(parents=True)
    write_export(folder)
    return folder


def write_export(folder: Path, source: str = "source", runtime: str = runtime()) -> None:
    (folder / "model.onnx").write_bytes(b"graph " * 100)
    (folder / "tokenizer.json").write_text("{}")
    hashes = {name: sha256_of(folder / name) for name in ("model.onnx", "tokenizer.json")}
    write_manifest(folder, ExportManifest(source=source, runtime=runtime, sha256=hashes, query_prompt="query: "))


def test_source_of_does_not_depend_on_the_folder(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    assert source_of(copy, "embedding") == source_of(model, "embedding")
    weights_sha256 = sha256_of(model / "model.safetensors")
    assert source_of(model, "embedding", weights_sha256) == source_of(model, "embedding")


@pytest.mark.parametrize("name", [*FILES, "3_Extra/config.json"])
def test_source_of_changes_with_every_file_of_the_model(model: Path, name: str) -> None:
    before = source_of(model, "embedding")
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("other")
    assert source_of(model, "embedding") != before


def test_source_of_ignores_other_files(model: Path) -> None:
    before = source_of(model, "embedding")
    (model / "README.md").write_text("new")
    (model / "onnx").mkdir()
    (model / "onnx" / "config.json").write_text("new")
    assert source_of(model, "embedding") == before


def test_tasks_have_other_sources_and_precisions_other_fingerprints(model: Path) -> None:
    source = source_of(model, "embedding")
    assert source != source_of(model, "reranking")
    assert fingerprint_of(source, "int8") != fingerprint_of(source, "float32")


def test_source_of_refuses_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        source_of(tmp_path, "embedding")


def test_read_manifest_returns_what_was_written(export: Path) -> None:
    manifest = read_manifest(export, "source")
    assert manifest is not None
    assert manifest.query_prompt == "query: "


def test_read_manifest_finds_every_flipped_byte(export: Path) -> None:
    for name in ("manifest", "model.onnx", "tokenizer.json"):
        whole = (export / name).read_bytes()
        for position in range(len(whole)):
            damaged = bytearray(whole)
            damaged[position] ^= 1
            (export / name).write_bytes(damaged)
            assert read_manifest(export, "source") is None, (name, position)
        (export / name).write_bytes(whole)
    assert read_manifest(export, "source") is not None


@pytest.mark.parametrize("name", ["manifest", "model.onnx", "tokenizer.json"])
def test_read_manifest_finds_a_truncated_or_missing_file(export: Path, name: str) -> None:
    (export / name).write_bytes((export / name).read_bytes()[:-1])
    assert read_manifest(export, "source") is None
    (export / name).unlink()
    assert read_manifest(export, "source") is None


def test_read_manifest_refuses_another_model_or_runtime(export: Path) -> None:
    assert read_manifest(export, "another") is None
    write_export(export, runtime="onnxruntime 0.1")
    assert read_manifest(export, "source") is None


def test_replace_export_swaps_the_folder_when_the_body_succeeds(export: Path) -> None:
    with replace_export(export) as partial:
        write_export(partial, "newer")
        assert read_manifest(export, "source") is not None
    assert read_manifest(export, "newer") is not None
    assert [path.name for path in export.parent.iterdir()] == ["source"]


def test_replace_export_keeps_the_old_folder_when_the_body_fails(export: Path) -> None:
    with pytest.raises(OSError, match="disk full"), replace_export(export) as partial:
        (partial / "model.onnx").write_bytes(b"half")
        raise OSError("disk full")
    assert read_manifest(export, "source") is not None
    assert [path.name for path in export.parent.iterdir()] == ["source"]


def test_replace_export_removes_the_leftovers_of_a_killed_converter(export: Path) -> None:
    left = export.with_name("source.partial")
    left.mkdir()
    (left / "whole.onnx").write_bytes(b"half")
    with replace_export(export) as partial:
        assert list(partial.iterdir()) == []


def test_lock_export_admits_one_converter_at_a_time(tmp_path: Path) -> None:
    inside, overlaps = threading.Semaphore(1), []

    def convert() -> None:
        with lock_export(tmp_path / "models" / "source"):
            overlaps.append(not inside.acquire(blocking=False))
            threading.Event().wait(0.001)
            inside.release()

    threads = [threading.Thread(target=convert) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [False] * 8


def test_read_manifest_refuses_a_manifest_that_names_a_missing_file(export: Path) -> None:
    manifest = read_manifest(export, "source")
    assert manifest is not None
    write_manifest(export, msgspec.structs.replace(manifest, sha256={"absent.onnx": "0"}))
    assert read_manifest(export, "source") is None
