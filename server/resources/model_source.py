"""The protocol of a source of a chat model for the pool."""

from types import TracebackType
from typing import Protocol, Self

from models.catalog import ResolvedChatModel
from models.llm.base import ChatModel, CompletionModel
from models.llm.engine.client import EngineClient
from models.llm.params import EngineParams
from server.resources.supervisor import Supervisor


class ModelSource(Protocol):
    """A configured chat model that can be loaded and unloaded. The pool decides when; one source is one model.

    A context manager that owns what the model needs even while it is not loaded, such as its vocabulary.
    """

    @property
    def resolved(self) -> ResolvedChatModel: ...
    @property
    def params(self) -> EngineParams: ...
    @property
    def chat_model(self) -> ChatModel: ...
    @property
    def completion_model(self) -> CompletionModel: ...

    @property
    def size_bytes(self) -> int:
        """Memory of this machine that the model takes while it is loaded."""
        ...

    @property
    def n_ctx(self) -> int:
        """Tokens of one conversation, as estimated before the model is loaded."""
        ...

    @property
    def is_loaded(self) -> bool:
        """True while it takes memory: it is loaded, being loaded, restarted or unloaded."""
        ...

    @property
    def is_unloading(self) -> bool: ...

    @property
    def state(self) -> str:
        """A few words for people."""
        ...

    @property
    def num_pending(self) -> int:
        """Requests that it has not answered yet."""
        ...

    @property
    def supervisor(self) -> Supervisor[EngineClient] | None:
        """The supervisor of its process; None before the first load, and for a model without a process."""
        ...

    def load(self) -> None:
        """Begin to load it. Not to be called while it is loaded."""
        ...

    async def wait_until_loaded(self) -> None:
        """Wait for the load that began last. Raises what prevented it."""
        ...

    async def unload(self) -> None:
        """Unload it, whatever becomes of the caller; return when its memory is free. Idempotent."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
