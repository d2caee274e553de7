"""The commands that ask a running server, run as processes with pipes and on a terminal."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from real_server import Server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

QUESTION = "How long is parental leave?"


def cloister(*arguments: str, stdin: str | None = None, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "server", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CLOISTER_")}
    return subprocess.run(
        command, input=stdin or "", capture_output=True, text=True, timeout=60, env=environment, cwd=cwd, check=False
    )


def on_terminal(command: Sequence[str], *, until: str = "", interrupt: bool = False) -> tuple[int, str]:
    """Run a command on a terminal; return its exit code and output. `interrupt`: press Ctrl-C once `until` appears."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "server", *command], stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    output, deadline = b"", time.monotonic() + 60
    with contextlib.suppress(OSError):  # the other end is closed
        while time.monotonic() < deadline:
            if select.select([leader], [], [], 0.1)[0]:
                piece = os.read(leader, 65536)
                if not piece:
                    break
                output += piece
            if interrupt and until.encode() in output:
                process.send_signal(signal.SIGINT)
                interrupt = False
    os.close(leader)
    return process.wait(30), output.decode(errors="replace")


def test_ask_prints_the_answer_and_its_sources(server: Server) -> None:
    result = cloister("ask", QUESTION, "--url", server.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert "sixteen weeks with full pay. [1]\n\nSources:\n[1] handbook/leave.md" in result.stdout
    assert f"{server.url}/documents/" in result.stdout


def test_ask_reads_a_question_from_standard_input(server: Server) -> None:
    for arguments in ([], ["-"]):
        assert "sixteen weeks" in cloister("ask", *arguments, "--url", server.url, stdin=f"{QUESTION}\n").stdout


def test_ask_searches_one_collection_and_prints_json(server: Server) -> None:
    reply = json.loads(cloister("ask", QUESTION, "--json", "--model=cloister/handbook", "--url", server.url).stdout)
    assert reply["rag"]["passages"][0]["collection"] == "handbook"
    result = cloister("ask", QUESTION, "--model=cloister/nothing", "--url", server.url)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "nothing" in result.stderr


def test_ask_explains_why_a_file_is_no_source(server: Server) -> None:
    result = cloister("ask", QUESTION, "--explain", "travel.md", "--url", server.url)
    assert result.returncode == 0
    assert result.stdout.startswith("handbook/travel.md: ")
    assert "rank by" in result.stdout
    assert "not indexed" in cloister("ask", QUESTION, "--explain", "none.md", "--url", server.url).stdout.replace(
        "_", " "
    )


def test_search_prints_passages(server: Server) -> None:
    result = cloister("search", "parental leave", "--top", "1", "--url", server.url)
    assert result.stdout.startswith("1. handbook/leave.md › ")
    assert "sixteen weeks" in result.stdout
    assert "2. " not in result.stdout
    assert len(json.loads(cloister("search", "leave", "--json", "--url", server.url).stdout)["data"]) >= 1
    refusal = cloister("search", "leave", "--collection", "nothing", "--url", server.url)
    assert (refusal.returncode, "nothing" in refusal.stderr) == (1, True)


def test_status_prints_processes_and_index(server: Server) -> None:
    result = cloister("status", "--url", server.url)
    assert result.returncode == 0
    for line in ("engine: ready", "encoder: ready", "indexer: ready", "handbook: "):
        assert line in result.stdout
    status = json.loads(cloister("status", "--json", "--url", server.url).stdout)
    assert (status["health"]["status"], status["index"]["collections"][0]["name"]) == ("ok", "handbook")


def test_status_on_a_terminal_ends_when_indexing_is_complete(server: Server) -> None:
    wait_until(lambda: server.status()["pending"] == 0, 30, "an index with nothing to do")
    code, output = on_terminal(["status", "--url", server.url])
    assert code == 0
    assert "\x1b[2Kindex: Up to date" in output


@pytest.mark.parametrize(
    ("command", "until"),
    [
        (["ask", "Tell me everything. " * 20, "--model=reader-v1"], " "),
        (["bench", "--streams=2", "--answers=400", "--max-tokens=400", "--model=reader-v1"], "tokens/s"),
        (["eval", "known.jsonl"], "right"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_interrupted_command_ends_at_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], until: str
) -> None:
    questions = [{"question": f"{QUESTION} ({i})", "file": "leave.md"} for i in range(400)]
    (tmp_path / "known.jsonl").write_text("\n".join(map(json.dumps, questions)))
    monkeypatch.chdir(tmp_path)
    code, output = on_terminal([*command, "--url", server.url], until=until, interrupt=True)
    assert (code, "Traceback" in output) == (130, False), output


def test_a_command_interrupted_while_it_starts_prints_no_traceback() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "server", "ask"]  # says each module as it is imported
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        next(line for line in process.stderr if "msgspec" in line)
        process.send_signal(signal.SIGINT)
        stderr = process.stderr.read()
        assert (process.wait(30), "Traceback" in stderr) == (130, False), stderr


def test_a_question_in_another_encoding_is_refused(server: Server) -> None:
    for command in ("ask", "search"):
        result = cloister(command, os.fsdecode(b"caf\xe9"), "--url", server.url)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert "no UTF-8 text" in result.stderr


def test_characters_that_the_terminal_lacks_are_replaced(server: Server) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "server", "search", "parental leave", "--url", server.url],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"1. handbook/leave.md ? " in result.stdout


@pytest.mark.parametrize("command", [["ask", QUESTION], ["search", "x"], ["status"]])
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:1", "start the server: cloister serve"),
        ("nonsense", "is not a URL"),
    ],
)
def test_the_error_without_a_server_says_how_to_start_it(command: list[str], url: str, says: str) -> None:
    result = cloister(*command, "--url", url)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert says in result.stderr


@pytest.mark.parametrize("text", ["", "   \n"])
def test_an_empty_question_is_an_error(server: Server, text: str) -> None:
    result = cloister("ask", "--url", server.url, stdin=text)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "there is no question" in result.stderr


def test_a_server_that_is_no_cloister_is_an_error(server: Server, tmp_path: Path) -> None:
    result = cloister("status", "--url", f"{server.url}/documents")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    missing = cloister("ask", QUESTION, "--url", server.url, "--key-file", str(tmp_path / "none"))
    assert (missing.returncode, "cannot be read" in missing.stderr) == (1, True)


def test_added_collections_are_saved_for_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    result = cloister("collections", "add", "notes", "--url=http://127.0.0.1:9", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "the next start watches it" in result.stdout
    assert (tmp_path / "cloister.toml").read_text() == f'[docs]\nnotes = "{tmp_path / "notes"}"\n'
    assert (tmp_path / "cloister.toml").stat().st_mode & 0o777 == 0o600
    (tmp_path / "cloister.toml").write_text("docs = 3")
    for action in ("add", "rm"):
        result = cloister("collections", action, "notes", "--url=http://127.0.0.1:9", cwd=tmp_path)
        assert (result.returncode, result.stderr.count("\n")) in ((1, 1), (2, 1)), result.stderr
    assert (tmp_path / "cloister.toml").read_text() == "docs = 3"


def test_shell_completion_lists_the_commands() -> None:
    script = cloister("completion", "bash").stdout
    completed = subprocess.run(
        ["bash", "-c", f'{script}\nCOMP_WORDS=(cloister col); COMP_CWORD=1; _shtab_cloister; echo "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.stdout.strip() == "collections", completed.stderr
    for shell in ("zsh", "fish", "powershell"):
        assert "collections" in cloister("completion", shell).stdout


def test_version_prints_the_version() -> None:
    assert cloister("--version").stdout.startswith("cloister 0.")


def test_a_closed_pipe_is_no_error() -> None:
    result = subprocess.run(
        f"{sys.executable} -m server models list | head -c 10; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode in (0, 130), result.stderr) == (True, "")


def test_eval_runs_a_list_of_questions(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "known.jsonl"
    lines = [
        {"question": QUESTION, "file": "handbook/leave.md", "answer": "Sixteen  weeks"},
        {"question": "Where does the spare key hang?", "file": "office/keys.txt"},
        {"question": QUESTION, "file": "travel.md", "answer": "seventeen"},
        {"question": "What is the boiling point of tungsten carbide?"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    result = cloister("eval", str(file), "--json", "--url", server.url)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert [(each["rank"], each["is_cited"], each["holds"]) for each in report["outcomes"]][:2] == [
        (1, True, True),
        (1, True, None),
    ]
    third = report["outcomes"][2]
    assert (third["rank"] != 1, third["is_cited"], third["holds"]) == (True, False, False)
    figures = report["figures"]
    assert (figures["questions"], round(figures["cited"], 2), figures["held"]) == (4, 0.67, 0.5)
    assert (figures["refused"], figures["refused_falsely"]) == (1.0, 0.0)
    output = cloister("eval", str(file), "--url", server.url).stdout
    assert output.startswith("right") and "right file cited: 67%" in output
    file.write_text('{"question": "a"}\n{"asked": 1}\n')
    result = cloister("eval", str(file), "--url", server.url)
    assert (result.returncode, result.stderr.count("\n"), "line 2" in result.stderr) == (1, 1, True)


def test_bench_times_answers(server: Server) -> None:
    result = cloister(
        "bench",
        "--streams=1,2",
        "--answers=2",
        "--max-tokens=8",
        f"--question={QUESTION}",
        "--json",
        "--url",
        server.url,
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [(row["streams"], row["answers"]) for row in rows] == [(1, 2), (2, 2)]
    assert all(0 < row["first_token_s"] <= row["first_token_p95_s"] and row["tokens_per_s"] > 0 for row in rows)
    assert cloister("bench", "--streams=0", "--url", server.url).returncode == 2
