"""Failures in operation: killed processes, signals, clients that disconnect, and wrong settings at the start."""

import contextlib
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from real_server import Server, children, run, serving, wait_until, write_handbook

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

QUESTION = "How long is parental leave?"
MODULES = {
    "models.llm.llama.process": "engine reader-v1",
    "models.encoder.process": "encoder",
    "server.resources.indexer": "indexer",
}
BUILTIN = Path(__file__).parents[2] / "models" / "builtin" / "reader-v1.gguf"


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server whose processes the tests may kill."""
    folder = tmp_path_factory.mktemp("operations")
    with serving(folder, write_handbook(folder / "handbook")) as running:
        yield running


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("module", MODULES)
def test_a_killed_process_comes_back_by_itself(own_server: Server, module: str) -> None:
    wait_until(own_server.is_healthy, 60, "a healthy server")
    killed = own_server.child(module)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def restarting() -> httpx.Response | None:
        with own_server.client() as http:
            response = http.get("/health")
        states = response.json()["processes"].values()
        return response if any("SIGKILL" in state for state in states) else None

    health = wait_until(restarting, 10, "the end of the process in /health")
    assert own_server.get("/livez").status_code == 200
    if module == "server.resources.indexer":  # answers need the engine and the encoder, and not the indexer
        assert health.status_code == 200
        assert "sixteen weeks" in own_server.answer(QUESTION)
    else:
        assert health.status_code == 503
        assert int(health.headers["retry-after"]) >= 1
        response = own_server.ask(QUESTION)
        if response.status_code != 200:  # it may have come back already
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["type"] == "server_error"
    wait_until(lambda: own_server.child(module) not in (None, killed), 30, "another process")
    wait_until(own_server.is_healthy, 60, "a healthy server again")
    wait_until(lambda: own_server.get("/readyz").status_code == 200, 20, "a search that succeeds")
    assert "sixteen weeks" in own_server.answer(QUESTION)
    assert _figures(own_server)[f'cloister_process_restarts_total{{process="{MODULES[module]}"}}'] >= 1


def test_saving_still_shows_after_the_indexer_was_killed(own_server: Server) -> None:
    wait_until(own_server.is_healthy, 60, "a healthy server")
    killed = own_server.child("server.resources.indexer")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    (own_server.docs / "meanwhile.md").write_text("# Lunch\n\nThe canteen serves barley soup on Thursdays.\n")
    wait_until(lambda: "barley soup" in own_server.answer("When is barley soup served?"), 60, "the file in an answer")


def test_killing_the_engine_mid_stream_gives_every_client_an_error_frame(own_server: Server) -> None:
    wait_until(own_server.is_healthy, 60, "a healthy server")
    engine = own_server.child("models.llm.llama.process")
    assert engine is not None
    body = {
        "model": "reader-v1",
        "stream": True,
        "max_tokens": 1900,
        "logit_bias": {"1": -100},  # never the end token: it talks until it is stopped
        "messages": [{"role": "user", "content": "hello"}],
    }
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(own_server.client())
        streams = [stack.enter_context(http.stream("POST", "/v1/chat/completions", json=body)) for _ in range(4)]
        answers = [stream.iter_lines() for stream in streams]
        for lines in answers:
            next(line for line in lines if '"content":"' in line and '"content":""' not in line)
        os.kill(engine, signal.SIGKILL)
        for lines in answers:
            rest = [line for line in lines if line]
            assert rest[-1].startswith('data: {"error":{"message":"The engine failed')
            assert "data: [DONE]" not in rest
    wait_until(own_server.is_healthy, 60, "a healthy server again")
    assert "sixteen weeks" in own_server.answer(QUESTION)


def test_a_disconnected_client_frees_its_slot(own_server: Server) -> None:
    """More clients leave, streaming and not, than there are slots and places in the queue together."""
    wait_until(own_server.is_healthy, 60, "a healthy server")
    endless = {
        "model": "reader-v1",
        "max_tokens": 1900,
        "logit_bias": {"1": -100},
        "messages": [{"role": "user", "content": "hello"}],
    }

    def leave(is_streaming: bool) -> None:
        with own_server.client() as http, contextlib.suppress(httpx.TimeoutException):
            http.post("/v1/chat/completions", json={**endless, "stream": is_streaming}, timeout=0.05)

    leavers = [threading.Thread(target=leave, args=(i % 2 == 0,)) for i in range(90)]
    for leaver in leavers:
        leaver.start()
    for leaver in leavers:
        leaver.join()
    assert "sixteen weeks" in own_server.answer(QUESTION)


def test_metrics_count_answers_and_restarts(own_server: Server) -> None:
    before = _figures(own_server)
    assert "sixteen weeks" in own_server.answer(QUESTION)
    after = _figures(own_server)
    for kind in ("prompt", "generated"):
        name = f'cloister_{kind}_tokens_total{{model="reader-v1"}}'
        assert after[name] > before.get(name, 0)
    assert after['cloister_search_seconds_count{stage="words"}'] > 0
    assert after['cloister_requests_running{model="reader-v1"}'] == 0


def _figures(server: Server) -> dict[str, float]:
    with server.client() as http:
        lines = http.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="asks Linux")
def test_no_process_leaves_a_core_dump(own_server: Server) -> None:
    wait_until(own_server.is_healthy, 60, "a healthy server")
    for pid in (own_server.process.pid, *(pid for pid, _ in children(own_server.process.pid))):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits), limits


def test_written_files_are_readable_by_their_user_only(own_server: Server) -> None:
    own_server.answer("How long is parental leave?")
    data = own_server.log.parent / "data"
    there = {path.name: oct(path.stat().st_mode & 0o777) for path in (data, *data.rglob("*"))}
    assert "index.sqlite3" in there
    assert {name: mode for name, mode in there.items() if mode not in ("0o600", "0o700")} == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_its_processes(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, write_handbook(tmp_path / "handbook")) as server:
        pids = [pid for pid, _ in children(server.process.pid)]
        assert len(pids) == len(MODULES)
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
        wait_until(lambda: not any(map(alive, pids)), 5, "all children gone")
    assert "Traceback" not in server.log.read_text()


def test_killing_the_server_leaves_no_orphan_and_the_next_start_goes_on(tmp_path: Path) -> None:
    docs = write_handbook(tmp_path / "handbook")
    with serving(tmp_path, docs) as server:
        pids = [pid for pid, _ in children(server.process.pid)]
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(map(alive, pids)), 20, "all children gone")
    with serving(tmp_path, docs) as server:
        assert "sixteen weeks" in server.answer(QUESTION)


def test_a_taken_port_is_one_line_that_names_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = run(f"--port={port}", f"--data={tmp_path / 'data'}", cwd=tmp_path)
    assert result.returncode == 1
    assert (
        result.stderr == f"cloister: port {port} is in use; stop what uses it, or choose another: --port {port + 1}\n"
    )


def corrupt_models(folder: Path) -> dict[str, bytes]:
    whole = BUILTIN.read_bytes()
    return {
        "empty.gguf": b"",
        "text.gguf": b"this is no model",
        "header.gguf": whole[:2000],
        "truncated.gguf": whole[: len(whole) // 2],
        "noise.gguf": b"GGUF" + os.urandom(4096),
    }


@pytest.mark.parametrize("name", sorted(corrupt_models(Path())))
def test_a_broken_model_file_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(corrupt_models(tmp_path)[name])
    result = run(
        f"--model={path}",
        f"--docs={write_handbook(tmp_path / 'docs')}",
        f"--data={tmp_path / 'd'}",
        "--port=0",
        cwd=tmp_path,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("cloister: ")
    assert str(path) in line


@pytest.mark.parametrize(
    ("arguments", "environment", "config", "message"),
    [
        (["--docs=nowhere"], {}, "", "docs.nowhere: there is no folder"),
        (["--docs=file.txt"], {}, "", "is a file; name the folder it is in"),
        (["--docs=Bad Name=."], {}, "", "docs.Bad Name: a collection's name is"),
        (["--docs=a=.", "--docs=a=."], {}, "", "two folders have this name"),
        (["--model=nothing.gguf"], {}, "", "no model named 'nothing.gguf'"),
        (["--port=http"], {}, "", "port: Expected int"),
        (["--port=70000"], {}, "", "port: Expected int <= 65535"),
        (["--host=example"], {}, "", "host: 'example' is not an IP address"),
        (["--config=none.toml"], {}, "", "none.toml cannot be read: No such file"),
        ([], {"CLOISTER_ENGINE__N_SLOT": "8"}, "", "engine.n_slot: there is no such setting"),
        ([], {"CLOISTER_ENGINE__NUM_SLOTS": "0"}, "", "engine.num_slots: Expected int >= 1"),
        ([], {}, "[engine]\nn_batch = 'many'", "engine.n_batch: Expected int"),
        ([], {}, "engine = ", "is not valid TOML"),
        ([], {}, "[engine]\nnum_slots = 300", "engine.num_slots: Expected int <= 64"),
        (["--data=file.txt"], {}, "", "file.txt: the data folder cannot be used"),
    ],
)
def test_wrong_settings_are_one_line_with_their_path(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], config: str, message: str
) -> None:
    (tmp_path / "file.txt").write_text("x")
    if config:
        (tmp_path / "cloister.toml").write_text(config)
    arguments = ["--port=0", f"--data={tmp_path / 'data'}", *arguments]
    result = run(*arguments, cwd=tmp_path, environment=environment)
    assert result.returncode in (1, 2)
    (line,) = result.stderr.splitlines()
    assert line.startswith("cloister: ")
    assert message in line


def test_wrong_embedding_files_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "embedder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"not tensors")
    result = run(
        f"--docs={write_handbook(tmp_path / 'docs')}",
        f"--data={tmp_path / 'd'}",
        "--port=0",
        cwd=tmp_path,
        environment={"CLOISTER_EMBEDDER": str(folder)},
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert str(folder) in line


def test_a_second_server_on_the_same_data_is_refused(own_server: Server) -> None:
    data = own_server.log.parent / "data"
    result = run(f"--docs={own_server.docs}", f"--data={data}", "--port=0", cwd=own_server.docs)
    assert result.returncode == 1
    assert "another server uses this data folder" in result.stderr
    assert len(result.stderr.splitlines()) == 1
