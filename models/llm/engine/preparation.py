"""What takes too long for the engine's thread: compiling a grammar, reading a saved prefix. Other answers go on."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self

from models.errors import GrammarError
from models.llm.constraints.forms import ConstraintForm
from models.llm.constraints.grammar import Grammar
from models.llm.engine.messages import Generate
from models.llm.kv.prefix_store import PrefixStore, Saved

_NUM_THREADS = 2  # a large grammar must not hold up everybody's prefixes


class Prepared(NamedTuple):
    """A request that can queue now. `error`: its constraint cannot be enforced, and it is to be told so."""

    request: Generate
    grammar: Grammar | None = None
    saved: Saved | None = None  # the prefix to put back into memory, with its `state`
    state: bytes | None = None
    error: str | None = None


class GrammarCompiler:
    """Owns its threads. `done` is called on them; `submit` and `cancel` belong to the engine's thread."""

    def __init__(
        self, compile: Callable[[ConstraintForm], Grammar], store: PrefixStore | None, done: Callable[[Prepared], None]
    ) -> None:
        self._compile = compile
        self._store = store
        self._done = done
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="preparation")
        self._pending: set[int] = set()

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    def submit(self, request: Generate, saved: Saved | None) -> None:
        self._pending.add(request.id)
        self._threads.submit(self._prepare, request, saved)

    def cancel(self, id: int) -> None:
        """Idempotent; what is under way for it is thrown away when it comes."""
        self._pending.discard(id)

    def is_wanted(self, prepared: Prepared) -> bool:
        """Once for each: False when the request was cancelled meanwhile."""
        with contextlib.suppress(KeyError):
            self._pending.remove(prepared.request.id)
            return True
        return False

    def _prepare(self, request: Generate, saved: Saved | None) -> None:
        try:
            grammar = self._compile(request.constraint) if request.constraint is not None else None
            state = self._store.read(saved) if self._store is not None and saved is not None else None
            self._done(Prepared(request, grammar, saved, state))
        except GrammarError as error:
            self._done(Prepared(request, error=str(error)))
        except Exception as error:  # a thread's end: whatever it was, the one who waits is told
            self._done(Prepared(request, error=f"{type(error).__name__}: {error}"))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
