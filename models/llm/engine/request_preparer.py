"""Prepare requests beside the engine's thread: compile their grammars, read their prefixes from disk."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self

from models.errors import GrammarError
from models.llm.constraints.forms import ConstraintForm
from models.llm.constraints.grammar import Grammar
from models.llm.engine.messages import Generate
from models.llm.kv.prefix_store import PrefixStore, StoredPrefix

_NUM_THREADS = 2  # so that a large grammar does not delay everybody's prefixes


class PreparedGeneration(NamedTuple):
    """A request that can be queued now. `error`: its constraint cannot be enforced, and the client is told why."""

    request: Generate
    grammar: Grammar | None = None
    prefix: StoredPrefix | None = None  # to be restored from `state`
    state: bytes | None = None
    error: str | None = None


class RequestPreparer:
    """Owns its threads, on which `on_prepared` is called. The other methods belong to the engine's thread."""

    def __init__(
        self,
        compile: Callable[[ConstraintForm], Grammar],
        store: PrefixStore | None,
        on_prepared: Callable[[PreparedGeneration], None],
    ) -> None:
        self._compile = compile
        self._store = store
        self._on_prepared = on_prepared
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="prepare")
        self._pending: set[int] = set()

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    def submit(self, request: Generate, prefix: StoredPrefix | None) -> None:
        """Prepare a request; `on_prepared` is called with the result, unless this is closed first."""
        self._pending.add(request.id)
        self._threads.submit(self._prepare, request, prefix)

    def cancel(self, id: int) -> None:
        """Let `claim` refuse this request. Idempotent."""
        self._pending.discard(id)

    def claim(self, prepared: PreparedGeneration) -> bool:
        """Take a result; called once for each. False when the request was cancelled meanwhile."""
        with contextlib.suppress(KeyError):
            self._pending.remove(prepared.request.id)
            return True
        return False

    def _prepare(self, request: Generate, prefix: StoredPrefix | None) -> None:
        try:
            grammar = self._compile(request.constraint) if request.constraint is not None else None
            state = self._store.read(prefix) if self._store is not None and prefix is not None else None
            self._on_prepared(PreparedGeneration(request, grammar, prefix, state))
        except GrammarError as error:
            self._on_prepared(PreparedGeneration(request, error=str(error)))
        except Exception as error:  # the end of a thread: whatever it was, the client that waits is told
            self._on_prepared(PreparedGeneration(request, error=f"{type(error).__name__}: {error}"))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
