"""Four layers, one tree, and an explanation for everything refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.errors import SettingsError
from server.settings.reading import docs_from_flags, read_settings
from server.settings.renamed import RENAMED
from server.settings.settings import MANUAL, Settings

SCRIPTS = Path(__file__).parents[3] / "scripts"


def read(tmp_path: Path, toml: str = "", environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    config = tmp_path / "settings.toml"
    config.write_text(toml)
    return read_settings(config, environ or {}, flags)


def test_each_layer_is_stronger_than_the_one_before(tmp_path: Path) -> None:
    toml, environ = (
        "port = 1\nhost = '::1'\n[engine]\nn_batch = 128\nnum_slots = 4",
        {"CLOISTER_ENGINE__NUM_SLOTS": "2"},
    )
    settings = read(tmp_path, toml, {**environ, "CLOISTER_HOST": "127.0.0.2"}, port="3", host=None)
    assert (settings.port, settings.host) == (3, "127.0.0.2")
    assert (settings.engine.n_batch, settings.engine.num_slots) == (128, 2)
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
        ("[engine]\nnum_slots = 0", {}, "engine.num_slots"),
        ("[engine]\nnum_slots = 64\nn_batch = 8", {}, "engine"),
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


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_the_error_for_an_old_name_says_the_new_one(tmp_path: Path, old: str, new: str) -> None:
    table, _, name = old.rpartition(".")
    toml = f"[{table}]\n{name} = 1" if table else f"{name} = 1"
    variable, new_variable = (f"CLOISTER_{each.upper().replace('.', '__')}" for each in (old, new))
    for file, environ in ((toml, {}), ("", {variable: "1"})):
        with pytest.raises(SettingsError) as refused:
            read(tmp_path, file, environ)
        assert refused.value.setting == old
        assert f"now called {new} ({new_variable} in the environment)" in refused.value.reason


def test_every_new_name_is_a_setting(tmp_path: Path) -> None:
    for new in RENAMED.values():
        read(tmp_path, "", {f"CLOISTER_{new.upper().replace('.', '__')}": "1"})


def test_the_settings_page_is_what_the_types_say() -> None:
    assert subprocess.run([sys.executable, SCRIPTS / "build" / "settings_reference.py", "--check"]).returncode == 0
