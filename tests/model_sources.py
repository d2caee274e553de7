"""Every implementation of a chat model and of its source: the contract tests of both run over all of them.

A new implementation adds a line to SOURCES.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.catalog import resolve_chat
from models.errors import ProcessFailed, ProcessUnavailable
from models.llm.engine.client import EngineClient, open_engine
from models.llm.params import EngineParams
from server.resources.local_model import LocalModelSource
from server.resources.model_source import ModelSource
from tests.models.gguf_files import write_llama
from tests.models.scripted import ScriptedChatModel
from tests.server.scripted_source import ScriptedModelSource


class OpenSource(NamedTuple):
    """A source under test, not loaded yet. `fail_next_load` makes the next load raise a `ModelError`."""

    source: ModelSource
    fail_next_load: Callable[[], object]


@contextlib.asynccontextmanager
async def open_local(folder: Path) -> AsyncIterator[OpenSource]:
    """Open a tiny GGUF, run by an engine process."""
    failures: list[Exception] = []

    @contextlib.asynccontextmanager
    async def open_tiny(source: LocalModelSource) -> AsyncIterator[EngineClient]:
        if failures:
            raise failures.pop()
        async with open_engine(source.resolved.path, source.params) as engine:
            yield engine

    path = write_llama(folder / "tiny.gguf")
    resolved = msgspec.structs.replace(resolve_chat(str(path)), name="tiny")
    params = EngineParams(n_ctx=256, num_slots=2, n_batch=64, num_threads=1)
    with LocalModelSource(resolved, params, open_tiny) as source:
        yield OpenSource(source, lambda: failures.append(ProcessFailed("engine", "no memory")))


@contextlib.asynccontextmanager
async def open_scripted(folder: Path) -> AsyncIterator[OpenSource]:
    model = ScriptedChatModel()
    with ScriptedModelSource(model, completion_model=model) as source:
        yield OpenSource(source, lambda: source.failures.append(ProcessUnavailable("model", "no answer", 1)))


@contextlib.asynccontextmanager
async def open_chat_only(folder: Path) -> AsyncIterator[OpenSource]:
    """Open a source as a model behind another server is: without memory, a process or single tokens."""
    with ScriptedModelSource(ScriptedChatModel()) as source:
        yield OpenSource(source, lambda: source.failures.append(ProcessUnavailable("upstream", "no answer", 1)))


Opener = Callable[[Path], AbstractAsyncContextManager[OpenSource]]
SOURCES: Mapping[str, Opener] = {"local": open_local, "scripted": open_scripted, "chat only": open_chat_only}
