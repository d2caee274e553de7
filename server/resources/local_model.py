"""A chat model whose files are on this machine, run by an engine process of its own."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Self

from models.catalog import ResolvedChatModel
from models.errors import ModelFileError, ProcessUnavailable
from models.llm.base import ChatModel, ChatModelProfile, CompletionModel
from models.llm.engine.client import EngineClient
from models.llm.local import LocalChatModel
from models.llm.params import EngineParams
from server.resources.supervisor import Supervisor

_RETRY_AFTER_S = 5


class LocalModelSource:
    """A `ModelSource`. The vocabulary is open all the time; the engine process runs while the model is loaded.

    `open` starts the engine process.
    """

    def __init__(self, resolved: ResolvedChatModel, params: EngineParams, open: "OpenEngine") -> None:
        """Raises `ModelFileError`, `TemplateError`."""
        self.name = resolved.name
        self.resolved = resolved
        self.params = params
        self.profile = ChatModelProfile(
            temperature=resolved.temperature,
            max_passage_chars=resolved.max_passage_chars,
            question_first=resolved.question_first,
            num_slots=params.num_slots,
            file_name=resolved.path.name,
            sha256=resolved.sha256,
            adapters=resolved.adapters,
        )
        self._open = open
        adapters_bytes = sum(_file_bytes(Path(adapter.path)) for adapter in resolved.adapters)
        self._model = LocalChatModel(resolved.name, resolved.path, self.engine, is_extractive=resolved.extractive)
        estimate = self._model.estimate(params)
        self.memory_bytes = estimate.total + adapters_bytes
        self.n_ctx = estimate.n_ctx
        self._supervisor: Supervisor[EngineClient] | None = None
        self._running: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def chat_model(self) -> ChatModel:
        return self._model

    @property
    def completion_model(self) -> CompletionModel:
        return self._model

    @property
    def is_loaded(self) -> bool:
        return self._running is not None and not self._running.done()

    @property
    def is_unloading(self) -> bool:
        return self._stopping is not None

    @property
    def state(self) -> str:
        if self._supervisor is None:
            return "not loaded"
        if self.is_unloading:
            return "unloading"
        if self.is_loaded:
            return self._supervisor.state
        return "not loaded" if self._supervisor.has_started else f"not loaded: {self._supervisor.state}"

    @property
    def is_ready(self) -> bool:
        return self.is_loaded and self._supervisor is not None and self._supervisor.is_ready

    @property
    def num_pending(self) -> int:
        return self.engine().num_pending if self.is_ready else 0

    @property
    def num_restarts(self) -> int | None:
        return None if self._supervisor is None else self._supervisor.num_restarts

    def engine(self) -> EngineClient:
        """Return the client of the engine that runs now. Raises `ProcessUnavailable`."""
        if self._supervisor is None or not self.is_loaded:
            raise ProcessUnavailable("engine", f"{self.name} is not loaded", retry_after=1)
        return self._supervisor.current()

    def load(self) -> None:
        supervisor = self._supervisor = Supervisor("engine", lambda: self._open(self))
        self._running = asyncio.create_task(supervisor.run(), name=f"engine {self.name}")
        self._running.add_done_callback(lambda task: supervisor.give_up(self._unavailable(task)))

    async def wait_until_loaded(self) -> None:
        assert self._supervisor is not None, "load() comes first"
        await self._supervisor.first()

    async def unload(self) -> None:
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name=f"stop {self.name}")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._running = self._stopping = None

    def _unavailable(self, task: "asyncio.Task[None]") -> ProcessUnavailable:
        """Return the error for whoever waits for the first start of an engine that has ended."""
        error = None if task.cancelled() else task.exception()
        reason = f"{type(error).__name__}: {error}" if error else f"{self.name} was unloaded"
        return ProcessUnavailable("engine", reason, retry_after=_RETRY_AFTER_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._model.close()


OpenEngine = Callable[[LocalModelSource], AbstractAsyncContextManager[EngineClient]]


def _file_bytes(path: Path) -> int:
    """Raises `ModelFileError`."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error)) from error
