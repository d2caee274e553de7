"""The catalog of models, and resolving names and paths."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from models import catalog
from models.catalog import (
    ChatModelEntry,
    EmbeddingModelEntry,
    check_sha256,
    read_catalog,
    resolve_chat,
    resolve_embedding,
    sha256_of,
)
from models.errors import ModelError, ModelFileError, ModelNotFound, ModelNotInstalled

WEIGHTS = b"GGUF of a kind"
TOML = """
[chat.small]
file = "builtin/small.gguf"
sha256 = "{sha256}"
temperature = 0.1
max_passage_chars = 99

[chat.gone]
file = "builtin/gone.gguf"
sha256 = "{sha256}"

[embedding.absent]
package = "a_package_that_is_not_installed"
folder = "model"

[embedding.without-package]
folder = "model"
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with a catalog and one model file, in place of the models package."""
    package = tmp_path / "package"
    (package / "builtin").mkdir(parents=True)
    (package / "builtin" / "small.gguf").write_bytes(WEIGHTS)
    (package / "catalog.toml").write_text(TOML.format(sha256=hashlib.sha256(WEIGHTS).hexdigest()))
    monkeypatch.setattr(catalog, "_PACKAGE", package)
    return package


MANUAL = Path(__file__).parents[2] / "docs" / "models.md"
BUNDLED = [name for name, entry in read_catalog().chat.items() if entry.source is None]
RECOMMENDED = {name: entry for name, entry in read_catalog().chat.items() if entry.source}


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_chat_model_has_the_catalog_s_hash(name: str) -> None:
    resolved = resolve_chat(name)
    assert resolved.sha256 == sha256_of(resolved.path)
    assert resolved.path.read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("name", read_catalog().embedding)
def test_every_bundled_embedding_model_has_the_catalog_s_hash(name: str) -> None:
    resolved = resolve_embedding(name)
    assert resolved.sha256 == sha256_of(resolved.path / "model.safetensors")


def test_every_bundled_model_has_a_hash_and_a_licence() -> None:
    entries = read_catalog()
    models: list[ChatModelEntry | EmbeddingModelEntry] = [entries.chat[name] for name in BUNDLED]
    models += entries.embedding.values()
    assert all(model.sha256 and model.licence for model in models)


@pytest.mark.parametrize("name", RECOMMENDED)
def test_every_recommended_model_has_the_figures_to_choose_by(name: str) -> None:
    entry = RECOMMENDED[name]
    assert entry.licence
    assert entry.purpose
    assert entry.context
    assert entry.parameters
    assert entry.bytes
    assert entry.memory
    assert entry.memory > entry.bytes
    assert 0.4 < entry.bytes / entry.parameters < 0.8, "four to five bits for each parameter"
    assert Path(entry.file).name == entry.file
    assert entry.file.endswith(".gguf")


@pytest.mark.parametrize("name", RECOMMENDED)
def test_the_manual_lists_every_recommended_model_with_the_catalog_s_figures(name: str) -> None:
    entry = RECOMMENDED[name]
    row = (
        f"| `{name}` | `{entry.file}` | {entry.source} | {entry.licence} | {(entry.bytes or 0) / 1e9:.1f} GB"
        f" | {(entry.memory or 0) / 1e9:.1f} GB | {entry.purpose} |"
    )
    assert row in MANUAL.read_text().splitlines()


def test_recommended_models_are_sorted_by_memory() -> None:
    memory_bytes = [entry.memory or 0 for entry in RECOMMENDED.values()]
    assert memory_bytes == sorted(memory_bytes)


def test_a_missing_recommended_model_raises_an_error_that_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotInstalled) as caught:
        resolve_chat("qwen3-4b", tmp_path)
    for part in ("qwen3-4b", "Qwen3-4B-Q4_K_M.gguf", "unsloth/Qwen3-4B-GGUF", "models pull qwen3-4b", "models import"):
        assert part in str(caught.value)


def test_a_recommended_model_is_found_in_the_models_folder(tmp_path: Path) -> None:
    path = tmp_path / RECOMMENDED["qwen3-4b"].file
    path.write_bytes(b"GGUF")
    resolved = resolve_chat("qwen3-4b", tmp_path)
    assert (resolved.name, resolved.path, resolved.sha256) == ("qwen3-4b", path, None)


def test_a_file_in_the_models_folder_is_resolved_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    assert resolve_chat("mine.gguf", tmp_path).path == tmp_path / "mine.gguf"
    working_folder = tmp_path / "working_folder"
    working_folder.mkdir()
    (working_folder / "mine.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(working_folder)
    assert resolve_chat("mine.gguf", tmp_path).path == working_folder / "mine.gguf"


@pytest.mark.parametrize("name", ["", ".", "..", "../models/mine.gguf", "other.gguf"])
def test_the_models_folder_resolves_only_names_of_its_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(ModelError):
        resolve_chat(name, folder)


def test_a_folder_is_refused_as_a_chat_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="this is a folder") as caught:
        resolve_chat(str(tmp_path))
    assert caught.value.path == tmp_path


def test_a_catalog_name_is_resolved_with_its_settings(package: Path) -> None:
    resolved = resolve_chat("small")
    assert (resolved.name, resolved.path) == ("small", package / "builtin" / "small.gguf")
    assert (resolved.temperature, resolved.max_passage_chars) == (0.1, 99)


def test_a_path_to_a_gguf_is_resolved_with_the_file_s_name(tmp_path: Path) -> None:
    path = tmp_path / "my-model.Q4_K_M.gguf"
    path.write_bytes(b"")
    resolved = resolve_chat(str(path))
    assert (resolved.name, resolved.path, resolved.sha256) == ("my-model.Q4_K_M", path, None)


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert resolve_chat("m.gguf").path == tmp_path / "m.gguf"


def test_a_tilde_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(b"")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_chat("~/m.gguf").path == tmp_path / "m.gguf"


def test_a_catalog_name_goes_before_a_file_of_that_name(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "small").write_bytes(b"")
    monkeypatch.chdir(package)
    assert resolve_chat("small").path == package / "builtin" / "small.gguf"


def test_a_path_to_a_folder_is_resolved_as_an_embedding_model(tmp_path: Path) -> None:
    resolved = resolve_embedding(str(tmp_path))
    assert (resolved.name, resolved.path, resolved.sha256) == (tmp_path.name, tmp_path, None)


@pytest.mark.parametrize("name", ["no-such-model", "/no/such/file.gguf", ""])
def test_an_unknown_chat_model_raises_model_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve_chat(name)
    assert caught.value.name == name


@pytest.mark.parametrize("name", ["no-such-model", "/no/such/folder", __file__])
def test_an_unknown_embedding_model_raises_model_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve_embedding(name)
    assert caught.value.name == name


@pytest.mark.parametrize("name", ["absent", "without-package"])
@pytest.mark.usefixtures("package")
def test_an_embedding_model_without_installed_package_raises_model_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound):
        resolve_embedding(name)


@pytest.mark.parametrize("content", [WEIGHTS[:-1], WEIGHTS + b"\0", b""], ids=["cut", "longer", "empty"])
def test_an_altered_file_is_refused(package: Path, content: bytes) -> None:
    path = package / "builtin" / "small.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="altered or cut") as caught:
        resolve_chat("small")
    assert caught.value.path == path


def test_a_missing_file_is_refused(package: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file") as caught:
        resolve_chat("gone")
    assert caught.value.path == package / "builtin" / "gone.gguf"


def test_check_sha256_without_a_hash_reads_nothing(tmp_path: Path) -> None:
    check_sha256(tmp_path / "not-there", None)


@pytest.mark.parametrize(
    "line",
    ["temprature = 0.1", "temperature = -1.0", "max_passage_chars = -1", 'file = "x"'],
    ids=lambda line: line.split()[0],
)
def test_a_catalog_with_an_unknown_field_or_bad_value_is_refused(package: Path, line: str) -> None:
    (package / "catalog.toml").write_text(f'[chat.small]\nfile = "x"\n{line}\n[embedding]\n')
    with pytest.raises((msgspec.ValidationError, ValueError)):
        read_catalog()
