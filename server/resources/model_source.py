"""The protocol of a chat model that the pool loads and unloads, wherever it runs."""

from types import TracebackType
from typing import Protocol, Self

from models.llm.base import ChatModel, ChatModelProfile, CompletionModel


class ModelSource(Protocol):
    """A configured chat model. The pool decides when it is loaded; one source is one model.

    A context manager that owns what the model needs even while it is not loaded, such as its vocabulary. The contract
    is tested by tests/server/resources/test_model_source_contract.py.
    """

    @property
    def name(self) -> str: ...
    @property
    def profile(self) -> ChatModelProfile: ...
    @property
    def chat_model(self) -> ChatModel: ...

    @property
    def completion_model(self) -> CompletionModel | None:
        """This model, if it completes bare prompts too; None for one that only continues conversations."""
        ...

    @property
    def n_ctx(self) -> int:
        """Tokens of one conversation, as known before the model is loaded."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Memory of this machine that the model takes while it is loaded; 0 for a model that runs elsewhere."""
        ...

    @property
    def state(self) -> str:
        """The state in a few words for people: "ready", "not loaded", or why it is not ready."""
        ...

    @property
    def is_ready(self) -> bool: ...

    @property
    def is_loaded(self) -> bool:
        """True while it takes memory: it is loaded, being loaded, restarted or unloaded."""
        ...

    @property
    def is_unloading(self) -> bool: ...

    @property
    def num_pending(self) -> int:
        """Requests that it has not answered yet."""
        ...

    @property
    def num_restarts(self) -> int | None:
        """Restarts of its process; None before the first load, and for a model without a process."""
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
