"""No question, answer or document is in any log, at any log level and after any failure (R21)."""

import io
import logging
import os
import signal
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from real_server import Server, serving, wait_until

from models.llm.chat.events import TurnEvent
from models.logs import LogConfig, configure_logging
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex
from tests.server.fakes import serving as playing

IN_QUESTION, IN_DOCUMENT, IN_NAME, IN_KEY, IN_HEADER = (f"canary{i}x7f3a9" for i in range(5))
CANARIES = (IN_QUESTION, IN_DOCUMENT, IN_NAME, IN_KEY, IN_HEADER)
# Parts of the data folder that hold content by design: the index, conversations, uploads.
KEEPS_CONTENT = ("index", "lexical", "turns.sqlite3", "responses.sqlite3", "batches.sqlite3", "files", "library")


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_logs_and_metrics_at_debug_level_hold_no_content(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / f"{IN_NAME}.md").write_text(f"# Leave\n\nParental leave is sixteen weeks, {IN_DOCUMENT}.\n")
    (docs / f"{IN_NAME}.pdf").write_bytes(b"%PDF-1.7 " + IN_DOCUMENT.encode())  # a damaged file
    (tmp_path / "cloister.toml").write_text('log_level = "debug"\naudit = "all"\n')
    with serving(tmp_path, docs) as server:
        wait_until(lambda: IN_DOCUMENT in server.answer("How long is parental leave?"), 60, "the document")
        use(server)
        for module in ("models.llm.llama.process", "models.encoder.process", "server.resources.indexer"):
            crash(server, module)
        metrics = server.get("/metrics").text
    texts = {"the log": server.log.read_text(), "metrics": metrics}
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file() and not path.relative_to(tmp_path / "data").parts[0].startswith(KEEPS_CONTENT):
            texts[str(path)] = path.read_bytes().decode(errors="replace")
    assert "SIGSEGV" in texts["the log"] and any("audit" in place for place in texts)
    assert [(place, canary) for place, text in texts.items() for canary in CANARIES if canary in text] == []
    assert not list(tmp_path.rglob("core*"))


def use(server: Server) -> None:
    """Send valid and invalid requests, with a canary in every part that a client controls."""
    headers = {"Authorization": f"Bearer {IN_KEY}", "X-Request-Id": IN_HEADER, "User-Agent": IN_HEADER}
    messages = [{"role": "user", "content": IN_QUESTION}]
    tool = {"type": "function", "function": {"name": IN_QUESTION, "parameters": {"type": IN_QUESTION}}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": IN_QUESTION, "arguments": [1]}}
    with server.client() as http:
        http.headers.update(headers)
        for path, body in (
            ("/v1/chat/completions", {"messages": messages}),
            ("/v1/chat/completions", {"messages": messages, "stream": True}),
            ("/v1/chat/completions", {"messages": messages, "tools": [tool]}),
            ("/v1/chat/completions", {"messages": messages * 3000}),
            ("/v1/chat/completions", {"messages": IN_QUESTION}),
            ("/v1/chat/completions", {"messages": messages, "model": IN_QUESTION}),
            ("/v1/responses", {"input": IN_QUESTION}),
            ("/v1/responses", {"input": IN_QUESTION, "previous_response_id": IN_QUESTION}),
            ("/v1/search", {"query": IN_QUESTION, "filters": {"paths": [IN_NAME]}}),
            ("/v1/embeddings", {"input": [IN_QUESTION]}),
            ("/v1/rerank", {"query": IN_QUESTION, "documents": [IN_QUESTION]}),
            ("/mcp", call),
            (f"/{IN_QUESTION}", {}),
        ):
            http.post(path, json=body)
        http.post("/v1/chat/completions", content=f'{{"messages": "{IN_QUESTION}'.encode())
        http.post("/v1/files", files={"file": (f"{IN_NAME}.md", IN_DOCUMENT)}, data={"purpose": "assistants"})


def crash(server: Server, module: str) -> None:
    """Kill a child process while it works, and wait until the server is healthy again."""
    killed = server.child(module)
    assert killed is not None
    asking = threading.Thread(target=lambda: server.ask(IN_QUESTION, max_tokens=500))
    asking.start()
    (server.docs / f"{IN_NAME}-{module}.md").write_text(IN_DOCUMENT * 50)
    os.kill(killed, signal.SIGSEGV)
    asking.join()
    wait_until(lambda: server.child(module) not in (None, killed), 30, f"{module} again")
    wait_until(server.is_healthy, 60, "a healthy server")


class Failing(ScriptedChatModel):
    """A model that fails with the question's text in the error."""

    async def generate(self, *_: object, **__: Any) -> AsyncGenerator[list[TurnEvent], None]:
        raise LookupError(IN_QUESTION)
        yield []


@pytest.fixture
def debug_log(logging_anew: None) -> io.StringIO:
    """Return the stream of everything that is logged at level debug."""
    configure_logging(LogConfig("debug"))
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream := io.StringIO())
    return stream


@pytest.mark.parametrize("stream", [False, True])
def test_an_unexpected_error_is_logged_by_its_type_without_its_message(
    tmp_path: Path, debug_log: io.StringIO, stream: bool
) -> None:
    with playing(tmp_path, Failing(), FakeIndex([])) as client:
        body = {"model": "played", "messages": [{"role": "user", "content": IN_QUESTION}], "stream": stream}
        reply = client.post("/v1/chat/completions", json=body)
    log = debug_log.getvalue()
    assert "unexpected LookupError" in log and "api/chat/routes.py" in log
    assert IN_QUESTION not in log and IN_QUESTION not in reply.text
    assert "unexpected" in reply.text
