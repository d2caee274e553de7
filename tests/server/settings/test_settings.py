"""Four layers, one tree, and an explanation for everything refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.errors import ModelNotFound
from server.errors import SettingsError
from server.settings.settings import MANUAL, Settings, docs_from_flags, read_settings

SCRIPTS = Path(__file__).parents[3] / "scripts"


def read(tmp_path: Path, toml: str = "", environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    config = tmp_path / "settings.toml"
    config.write_text(toml)
    return read_settings(config, environ or {}, flags)


def test_each_layer_is_stronger_than_the_one_before(tmp_path: Path) -> None:
    toml, environ = "port = 1\nhost = '::1'\n[engine]\nn_batch = 128\nn_slots = 4", {"CLOISTER_ENGINE__N_SLOTS": "2"}
    settings = read(tmp_path, toml, {**environ, "CLOISTER_HOST": "127.0.0.2"}, port="3", host=None)
    assert (settings.port, settings.host) == (3, "127.0.0.2")
    assert (settings.engine.n_batch, settings.engine.n_slots) == (128, 2)
    assert settings.engine.n_ctx == Settings().engine.n_ctx


def test_collections_of_a_stronger_layer_replace_all_weaker_ones(tmp_path: Path) -> None:
    settings = read(tmp_path, "[docs]\na = '/a'\nb = '/b'", docs={"c": "/c"})
    assert settings.docs == {"c": "/c"}


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    assert read(tmp_path, "", {"CLOISTERED": "x", "PATH": "/bin"}) == Settings()


@pytest.mark.parametrize(
    ("toml", "environ", "where"),
    [
        ("n_ctx = 1", {}, "n_ctx"),
        ("[engine]\nn_cxt = 1", {}, "engine.n_cxt"),
        ("[engine]\nn_slots = 0", {}, "engine.n_slots"),
        ("[engine]\nn_slots = 64\nn_batch = 8", {}, "engine"),
        ("engine = 3", {}, "engine"),
        ("", {"CLOISTER_RAG__TOP_K": "many"}, "rag.top_k"),
        ("", {"CLOISTER_": "x"}, ""),
        ("log_level = 'loud'", {}, "log_level"),
    ],
)
def test_a_refusal_names_the_path(tmp_path: Path, toml: str, environ: dict[str, str], where: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, toml, environ)
    assert refused.value.setting == where


@pytest.mark.parametrize(
    ("flags", "docs"),
    [
        ([], None),
        (["/srv/Hand Book"], {"hand-book": "/srv/Hand Book"}),
        (["/srv/handbook/"], {"handbook": "/srv/handbook/"}),
        (["a=/x=y", "b=."], {"a": "/x=y", "b": "."}),
        (["/"], {"docs": "/"}),
    ],
)
def test_folders_are_named_by_flag_or_by_themselves(flags: list[str], docs: dict[str, str] | None) -> None:
    assert docs_from_flags(flags) == docs


def test_without_folders_the_manual_is_watched() -> None:
    (manual,) = Settings().collections()
    assert (manual.name, manual.root) == ("docs", MANUAL.resolve())


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
def test_the_default_chat_model_comes_first_and_may_be_one_of_the_named(
    tmp_path: Path, default: str, names: list[str]
) -> None:
    found = {
        each.name: (each, params) for each, params in read(tmp_path, MODELS.format(default=default)).chat_models().found
    }
    assert list(found) == names
    big, params = found["big"]
    assert [(adapter.path, adapter.scale) for adapter in big.adapters] == [("/a.gguf", 0.5)]
    assert params.n_ctx == 1024
    assert found["small"][1].n_ctx == 512


@pytest.mark.parametrize("name", ["cloister", "cloister/x", "cloister@x", "a b", "-a", "a@b", ""])
def test_a_models_name_cannot_be_taken_for_another_id(tmp_path: Path, name: str) -> None:
    settings = read(tmp_path, f'[models."{name}"]\npath = "reader-v1"')
    with pytest.raises(SettingsError, match="a model's name is"):
        settings.chat_models()


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    same = tmp_path / "same.gguf"
    same.write_bytes(b"GGUF")
    settings = read(tmp_path, '[models.same]\npath = "reader-v1"', model=str(same))
    with pytest.raises(SettingsError, match="has this name already"):
        settings.chat_models()


def test_a_file_that_is_called_like_the_documents_id_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cloister.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(SettingsError, match="stands for answers from documents"):
        read(tmp_path, "", model=str(path)).chat_models()


def test_a_further_model_without_its_file_is_missing_and_the_default_is_an_error(tmp_path: Path) -> None:
    config = '[models.gone]\npath = "/nowhere/gone.gguf"\n[models.absent]\npath = "qwen3-0.6b"'
    found, missing = read(tmp_path, config, data=str(tmp_path)).chat_models()
    assert [each.name for each, _ in found] == ["reader-v1"]
    assert missing.keys() == {"gone", "absent"}
    assert "/nowhere/gone.gguf" in str(missing["gone"])
    with pytest.raises(ModelNotFound, match="gone"):
        read(tmp_path, config, model="gone").chat_models()
    with pytest.raises(SettingsError, match="has this name already"):
        same = tmp_path / "same.gguf"
        same.write_bytes(b"GGUF")
        read(tmp_path, '[models.same]\npath = "/nowhere/gone.gguf"', model=str(same)).chat_models()


def test_models_that_are_named_alone_are_looked_for_below_the_data_folder(tmp_path: Path) -> None:
    path = tmp_path / "data" / "models" / "mine.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    settings = read(tmp_path, "", model="mine.gguf", data=str(tmp_path / "data"))
    assert [each.path for each, _ in settings.chat_models().found] == [path]


def test_the_settings_page_is_what_the_types_say() -> None:
    assert subprocess.run([sys.executable, SCRIPTS / "build" / "settings_reference.py", "--check"]).returncode == 0
