"""docs/clients.md: run its Python, read its settings, and send what each client sends with them."""

import contextlib
import gc
import io
import json
import re
import subprocess
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from real_server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
SHOWN = "http://127.0.0.1:8000"
NODE = Path(__file__).parent / "node"
ASKED = [{"role": "user", "content": [{"type": "text", "text": "How long is parental leave?"}]}]
STREAM = {"model": "cloister", "messages": ASKED, "stream": True, "stream_options": {"include_usage": True}}


class Block(NamedTuple):
    section: str
    language: str
    text: str


def blocks() -> list[Block]:
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    return [
        Block(section.partition("\n")[0], language, text)
        for section in sections
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    ]


def block_of(section: str) -> str:
    return next(block.text for block in blocks() if block.section == section)


@pytest.mark.parametrize("block", [block for block in blocks() if block.language == "python"], ids=lambda b: b.section)
def test_python_examples_run(server: Server, block: Block) -> None:
    for module in re.findall(r"^from (\w+)", block.text, re.MULTILINE):
        pytest.importorskip(module)
    result = io.StringIO()
    with contextlib.redirect_stdout(result), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # what is shown leaves closing to the program's end
        exec(block.text.replace(SHOWN, server.url), {})
        gc.collect()
    assert "sixteen weeks" in result.getvalue()


@pytest.mark.skipif(not (NODE / "node_modules").is_dir(), reason="npm --prefix tests/clients/node ci")
def test_javascript_examples_run(server: Server) -> None:
    text = block_of("OpenAI for JavaScript").replace(SHOWN, server.url)
    command = ["node", "--input-type=module", "--eval", text]
    done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=60)
    assert "sixteen weeks" in done.stdout, done.stderr


@pytest.mark.parametrize("block", [block for block in blocks() if block.language == "json"], ids=lambda b: b.section)
def test_json_examples_are_valid_and_name_the_server(block: Block) -> None:
    assert SHOWN in json.dumps(json.loads(block.text))


@pytest.mark.parametrize("block", [block for block in blocks() if block.language == "yaml"], ids=lambda b: b.section)
def test_yaml_examples_are_valid_and_name_the_server(block: Block) -> None:
    assert SHOWN in json.dumps(pytest.importorskip("yaml").safe_load(block.text))


class Call(NamedTuple):
    """A request that a client sends to the address in its section, and what it needs in the reply."""

    section: str
    method: str
    path: str
    body: Any
    looks_for: str
    headers: dict[str, str] = {}


CALLS = [
    Call("Open WebUI", "GET", "/v1/models", None, '"id":"cloister"', {"Authorization": "Bearer none"}),
    Call("Open WebUI", "POST", "/v1/chat/completions", STREAM, '"url_citation"'),
    Call(
        "Continue",
        "POST",
        "/v1/chat/completions",
        STREAM,
        "Sources:",
        {"Authorization": "Bearer undefined", "x-api-key": "", "api-key": "", "X-Cloister-Citations": "inline"},
    ),
    Call("Cline", "GET", "/v1/models", None, '"data":['),
    Call("Cline", "POST", "/v1/chat/completions", {**STREAM, "temperature": 0}, "data: [DONE]"),
    Call("Zed", "POST", "/v1/chat/completions", {**STREAM, "prompt_cache_key": "a", "stop": []}, '"total_tokens":'),
    Call("Copilot in VS Code", "POST", "/v1/chat/completions", {**STREAM, "n": 1, "top_p": 1}, '"usage":{'),
    Call(
        "llama.vim",
        "POST",
        "/v1/chat/completions",
        {"messages": ASKED, "min_p": 0.1, "temperature": 0.1, "samplers": ["min_p", "temperature"], "stream": True},
        '"content":"',
    ),
    Call("llama.vscode", "GET", "/health", None, '"status":"ok"'),
    Call("llama.vscode", "GET", "/v1/models", None, '"data":['),
    Call("aider", "POST", "/v1/chat/completions", {**STREAM, "temperature": 0}, '"finish_reason":"stop"'),
    Call("JetBrains AI Assistant", "GET", "/v1/models", None, '"created":'),
    Call("JetBrains AI Assistant", "POST", "/v1/chat/completions", {**STREAM, "temperature": 0.1}, "sixteen weeks"),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.section} {call.path}")
def test_documented_requests_are_answered(server: Server, call: Call) -> None:
    section = PAGE.split(f"## {call.section}\n", 1)[1].split("\n## ", 1)[0]
    assert SHOWN in section
    with server.client() as http:
        reply = http.request(call.method, call.path, json=call.body, headers=call.headers)
    assert reply.status_code == 200, reply.text
    text = reply.text
    if '"delta"' in text:  # in pieces of a few letters
        frames = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
        text += "".join(c["delta"].get("content", "") for frame in frames for c in frame["choices"])
    assert call.looks_for in text


def test_every_documented_client_is_tested() -> None:
    section_names = {section.partition("\n")[0] for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}
    run = {block.section for block in blocks() if block.language in ("python", "js")}
    assert section_names - run - {call.section for call in CALLS} == {"llm", "When something does not work"}
