"""Several chat models of one real server, loaded from files on request and unloaded when idle."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_server import Server, children, run, serving, wait_until, write_handbook

from tests.models.gguf_files import write_llama, write_lora, write_parts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CONFIG = """
unload_after_s = 1
[models.parts]
path = "{parts}"
n_ctx = 512
[models.adapted]
path = "{parts}"
lora = {{ "{lora}" = 1.0 }}
n_ctx = 512
[models.broken]
path = "{broken}"
[models.gone]
path = "/nowhere/gone.gguf"
[models.unlike]
path = "{unlike}"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    parts = write_parts(folder, "random", 2)
    broken = folder / "broken.gguf"
    broken.write_bytes(write_llama(folder / "whole.gguf").read_bytes())
    lora = write_lora(folder / "lora.gguf")
    unlike = folder / "unlike.gguf"
    unlike.write_text("not a model")
    (folder / "cloister.toml").write_text(CONFIG.format(parts=parts[1], lora=lora, broken=broken, unlike=unlike))
    with serving(folder, write_handbook(folder / "handbook")) as running:
        broken.write_bytes(broken.read_bytes()[:-9000])  # after the start, which looks at its head only
        yield running


def states(server: Server) -> dict[str, str]:
    with server.client() as http:
        return {card["id"]: card["state"] for card in http.get("/v1/models").json()["data"]}


def engines(server: Server) -> int:
    return sum("models.llm.llama.process" in command for _, command in children(server.process.pid))


def say(server: Server, model: str, **fields: Any) -> dict[str, Any]:
    response = server.ask("How long is parental leave?", model=model, max_tokens=4, temperature=0, **fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_a_model_is_loaded_on_request_and_unloaded_when_idle(server: Server) -> None:
    assert states(server)["parts"] == "not loaded"
    for _ in range(2):
        answer = say(server, "parts")
        assert answer["usage"]["completion_tokens"] >= 1
        wait_until(lambda: states(server)["parts"] == "not loaded" and engines(server) == 1, 20, "the model's going")
    assert states(server)["cloister"] == "ready"
    assert "sixteen weeks" in server.answer("How long is parental leave?")


def test_the_list_names_every_model_alone_and_with_the_documents(server: Server) -> None:
    assert {"cloister", "cloister/handbook", "cloister@parts", "parts", "adapted", "reader-v1"} <= set(states(server))


def test_every_model_can_answer_from_the_documents(server: Server) -> None:
    alone, grounded = say(server, "parts"), say(server, "cloister@parts")
    assert grounded["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"] + 20
    of_one = say(server, "cloister/handbook@parts")
    assert of_one["usage"]["prompt_tokens"] == grounded["usage"]["prompt_tokens"]


def test_an_adapter_makes_another_model_of_the_same_file(server: Server) -> None:
    plain, with_adapter = (
        say(server, model, logprobs=True)["choices"][0]["logprobs"]["content"] for model in ("parts", "adapted")
    )
    assert plain[0]["logprob"] != with_adapter[0]["logprob"]


def test_a_model_that_fails_to_load_does_not_affect_the_others(server: Server) -> None:
    for _ in range(2):
        response = server.ask("hello", model="broken")
        assert response.status_code == 503
        assert "broken.gguf" in response.json()["error"]["message"]
    assert states(server)["broken"].startswith("not loaded: ")
    say(server, "parts")


@pytest.mark.parametrize(("name", "file"), [("gone", "/nowhere/gone.gguf"), ("unlike", "unlike.gguf")])
def test_a_model_that_cannot_be_read_at_the_start_is_listed_with_the_reason(
    server: Server, name: str, file: str
) -> None:
    assert states(server)[name].startswith("not available: ")
    assert file in states(server)[f"cloister@{name}"]
    for id in (name, f"cloister@{name}"):
        response = server.ask("hello", model=id)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "model_unavailable")
        assert file in response.json()["error"]["message"]
    assert f"models.{name} is not available" in server.log.read_text()


def test_a_default_model_without_its_file_stops_the_start(tmp_path: Path) -> None:
    result = refused_start(tmp_path, 'model = "gone"\n[models.gone]\npath = "/nowhere/gone.gguf"')
    assert "/nowhere/gone.gguf" in result.stderr


def test_an_unknown_model_behind_the_at_sign_is_named(server: Server) -> None:
    response = server.ask("hello", model="cloister@none")
    assert response.status_code == 404
    assert "cloister@parts" in response.json()["error"]["message"]


def test_no_memory_while_another_model_is_used_is_a_503_with_the_sizes(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "random", 2)
    first, second = (f'[models.{name}]\npath = "{parts[0]}"\n' for name in ("first", "second"))
    (tmp_path / "cloister.toml").write_text(f"memory_budget_bytes = 400_000_000\n{first}{second}")
    endless = {"model": "first", "stream": True, "max_tokens": 1900, "logit_bias": {"1": -100}}
    with serving(tmp_path, write_handbook(tmp_path / "handbook")) as server, server.client() as http:
        body = {"messages": [{"role": "user", "content": "hello"}], **endless}
        with http.stream("POST", "/v1/chat/completions", json=body) as stream:
            lines = stream.iter_lines()  # the answer goes on as long as somebody holds this
            next(lines)
            refusal = server.ask("hello", model="second")
            assert states(server)["first"] == "ready"
            lines.close()
        assert refusal.status_code == 503
        assert int(refusal.headers["retry-after"]) >= 1
        assert refusal.json()["error"]["code"] == "model_does_not_fit"
        assert "400 MB are for chat models, and these are in use" in refusal.json()["error"]["message"]
        wait_until(lambda: server.ask("hello", model="second", max_tokens=1).status_code == 200, 20, "room")
        assert states(server)["first"] == "not loaded"


def test_a_budget_too_small_for_the_default_stops_the_start_with_the_sizes(tmp_path: Path) -> None:
    result = refused_start(tmp_path, "memory_budget_bytes = 50_000_000")
    assert "reader-v1 needs about" in result.stderr
    assert "50 MB are for chat models" in result.stderr


def test_a_model_that_never_fits_beside_the_default_stops_the_start(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "random.gguf")
    result = refused_start(tmp_path, f'memory_budget_bytes = 200_000_000\n[models.more]\npath = "{path}"')
    assert "more needs about" in result.stderr
    assert "always stays in memory: reader-v1" in result.stderr


def refused_start(folder: Path, config: str) -> "subprocess.CompletedProcess[str]":
    (folder / "cloister.toml").write_text(config)
    result = run(f"--docs={write_handbook(folder / 'docs')}", f"--data={folder / 'd'}", "--port=0", cwd=folder)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    return result
