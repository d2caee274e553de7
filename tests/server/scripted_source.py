"""A source of a scripted chat model: nothing of it is on this machine, as with a model behind another server."""

from typing import Self

from models.errors import ProcessUnavailable
from models.llm.base import ChatModelProfile, CompletionModel
from tests.models.scripted import ScriptedChatModel


class ScriptedModelSource:
    """A `ModelSource` without a process or a file. `failures` are raised by the next loads."""

    memory_bytes = 0  # or what a test sets
    num_pending = 0
    num_restarts = None
    is_unloading = False

    def __init__(self, model: ScriptedChatModel, completion_model: CompletionModel | None = None) -> None:
        self.name = model.name
        self.profile = ChatModelProfile(temperature=0.0, num_slots=4)
        self.chat_model = model
        self.completion_model = completion_model
        self.n_ctx = model.context_length
        self.state = "not loaded"
        self.failures: list[ProcessUnavailable] = []
        self._failure: ProcessUnavailable | None = None

    @property
    def is_ready(self) -> bool:
        return self.state == "ready"

    @property
    def is_loaded(self) -> bool:
        return self.state in ("ready", "starting")

    def load(self) -> None:
        self._failure = self.failures.pop(0) if self.failures else None
        self.state = "ready" if self._failure is None else f"not loaded: {self._failure}"

    async def wait_until_loaded(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def unload(self) -> None:
        self.state = "not loaded"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
