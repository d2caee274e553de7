"""The chat models that the settings name, found on disk or refused."""

from pathlib import Path
from typing import Any

import pytest

from models.errors import ModelNotFound
from server.errors import SettingsError
from server.resources.chat_models import ChatModels, resolve_chat_models
from server.settings.reading import read_settings


def resolve(tmp_path: Path, toml: str, **flags: Any) -> ChatModels:
    config = tmp_path / "settings.toml"
    config.write_text(toml)
    return resolve_chat_models(read_settings(config, {}, flags))


MODELS = """
model = "{default}"
[engine]
n_ctx = 512
[models.big]
path = "reader-v1"
n_ctx = 1024
lora = {{ "/a.gguf" = 0.5 }}
[models.small]
path = "reader-v1"
"""


@pytest.mark.parametrize(
    ("default", "names"), [("reader-v1", ["reader-v1", "big", "small"]), ("small", ["small", "big"])]
)
def test_the_default_chat_model_comes_first_and_may_be_a_further_one(
    tmp_path: Path, default: str, names: list[str]
) -> None:
    configured = {model.name: model for model in resolve(tmp_path, MODELS.format(default=default)).configured}
    assert list(configured) == names
    adapters = configured["big"].resolved.adapters
    assert [(adapter.path, adapter.scale) for adapter in adapters] == [("/a.gguf", 0.5)]
    assert configured["big"].params.n_ctx == 1024
    assert configured["small"].params.n_ctx == 512


@pytest.mark.parametrize("name", ["cloister", "cloister/x", "cloister@x", "a b", "-a", "a@b", ""])
def test_a_model_name_that_reads_like_a_grounded_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="a model's name is"):
        resolve(tmp_path, f'[models."{name}"]\npath = "reader-v1"')


def test_two_models_of_the_same_name_are_refused(tmp_path: Path) -> None:
    same = tmp_path / "same.gguf"
    same.write_bytes(b"GGUF")
    with pytest.raises(SettingsError, match="has this name already"):
        resolve(tmp_path, '[models.same]\npath = "reader-v1"', model=str(same))


def test_a_model_file_named_like_the_grounded_id_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cloister.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(SettingsError, match="stands for answers from documents"):
        resolve(tmp_path, "", model=str(path))


def test_a_missing_file_is_reported_for_a_further_model_and_raised_for_the_default(tmp_path: Path) -> None:
    config = '[models.gone]\npath = "/nowhere/gone.gguf"\n[models.absent]\npath = "qwen3-0.6b"'
    configured, missing = resolve(tmp_path, config, data=str(tmp_path))
    assert [model.name for model in configured] == ["reader-v1"]
    assert missing.keys() == {"gone", "absent"}
    assert "/nowhere/gone.gguf" in str(missing["gone"])
    with pytest.raises(ModelNotFound, match="gone"):
        resolve(tmp_path, config, model="gone")
    with pytest.raises(SettingsError, match="has this name already"):
        same = tmp_path / "same.gguf"
        same.write_bytes(b"GGUF")
        resolve(tmp_path, '[models.same]\npath = "/nowhere/gone.gguf"', model=str(same))


def test_a_bare_file_name_is_looked_up_in_the_models_folder(tmp_path: Path) -> None:
    path = tmp_path / "data" / "models" / "mine.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    models = resolve(tmp_path, "", model="mine.gguf", data=str(tmp_path / "data"))
    assert [model.resolved.path for model in models.configured] == [path]
