"""The engine process: one loaded GGUF, and the loop that steps the engine. `python -m models.llm.llama.process FD`."""

import contextlib
import threading
from pathlib import Path

from models.ipc import Inbox, child_main
from models.llm.constraints.forms import ConstraintForm
from models.llm.constraints.grammar import Grammar
from models.llm.constraints.grammar_tokenizer import GrammarTokenizer
from models.llm.engine.engine import Engine
from models.llm.engine.messages import Cancel, Delta, Deltas, EngineReady, Generate, LoadEngine, ToEngine
from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.request_preparer import PreparedGeneration, RequestPreparer
from models.llm.engine.scheduler import Scheduler
from models.llm.kv.disk_cache import DiskKVCache
from models.llm.kv.offload import KVOffload
from models.llm.kv.prefix_store import PrefixStore

_IDLE_S = 0.5  # without a request before prefixes are written to disk
_LAST_WRITES_S = 3.0  # for writing the ends of conversations when the server stops


class _GrammarFactory:
    """Compiles grammars for a model's vocabulary, which is loaded for the first of them. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokenizer: GrammarTokenizer | None = None
        self._lock = threading.Lock()

    def __call__(self, constraint: ConstraintForm) -> Grammar:
        from models.llm.llama.vocabulary import Vocabulary

        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = GrammarTokenizer(Vocabulary(self._path))
        return Grammar(self._tokenizer, constraint)


class _EngineLoop:
    """Receives messages, steps the engine and sends deltas, until the server closes the connection."""

    def __init__(
        self,
        inbox: Inbox[ToEngine | PreparedGeneration],
        engine: Engine,
        preparer: RequestPreparer,
        offload: KVOffload,
        disk_cache: DiskKVCache | None,
    ) -> None:
        self._inbox = inbox
        self._engine = engine
        self._preparer = preparer
        self._offload = offload
        self._disk_cache = disk_cache
        self._has_written_all = True  # no prefix is left to write, and no message has come since

    def run(self) -> None:
        while (messages := self._inbox.take(self._poll_timeout)) is not None:
            for message in messages:
                self._has_written_all = False
                if deltas := self._handle(message):
                    self._inbox.send(Deltas(deltas))
            if not self._engine.is_idle:
                self._offload.before_step()
                if deltas := self._engine.step():
                    self._inbox.send(Deltas(deltas))
            elif not messages:
                self._has_written_all = self._disk_cache is None or not self._disk_cache.write_next()
        if self._disk_cache is not None:
            self._disk_cache.write_recent(_LAST_WRITES_S)

    @property
    def _poll_timeout(self) -> float | None:
        """Seconds to wait for a message; None: without limit."""
        if not self._engine.is_idle:
            return 0
        return None if self._has_written_all else _IDLE_S

    def _handle(self, message: ToEngine | PreparedGeneration) -> list[Delta]:
        match message:
            case Generate():
                prefix = self._disk_cache.find(message.prompt) if self._disk_cache else None
                if message.constraint is None and prefix is None:
                    return self._engine.add(message)
                self._preparer.submit(message, prefix)
            case PreparedGeneration() if self._preparer.claim(message):
                return self._add(message)
            case Cancel(id):
                self._preparer.cancel(id)
                self._engine.cancel(id)
        return []

    def _add(self, prepared: PreparedGeneration) -> list[Delta]:
        request = prepared.request
        if prepared.error is not None:
            return [Delta(request.id, [], error=prepared.error)]
        if self._disk_cache and prepared.prefix is not None and prepared.state is not None:
            self._disk_cache.restore(prepared.prefix, prepared.state, request.prompt)
        return self._engine.add(request, prepared.grammar)


def _serve(inbox: Inbox[ToEngine | PreparedGeneration]) -> None:
    from models.llm.llama.runner import LlamaRunner  # loads llama.cpp: only here, after the socket is being read

    load = next(iter(inbox), None)
    if not isinstance(load, LoadEngine):
        return
    path = Path(load.path)
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(LlamaRunner(path, load.params, load.adapters))
        scheduler = Scheduler(runner.limits, runner.end_tokens)
        engine = Engine(
            scheduler,
            runner,
            min(runner.end_tokens, default=0),
            prefill_budget=PrefillBudget(runner.limits.n_batch),
            prompt_lookup=load.params.prompt_lookup and runner.limits.supports_partial_removal,
        )
        store = _open_store(load, runner.identity)
        max_offloaded = runner.limits.n_ctx if load.params.offload_tokens < 0 else load.params.offload_tokens
        offload = KVOffload(scheduler, runner, max_offloaded)
        disk_cache = stack.enter_context(DiskKVCache(store, scheduler, runner, offload)) if store is not None else None
        preparer = stack.enter_context(RequestPreparer(_GrammarFactory(path), store, inbox.post))
        inbox.send(EngineReady(n_ctx=runner.limits.n_ctx, num_params=runner.num_params, size=runner.size))
        _EngineLoop(inbox, engine, preparer, offload, disk_cache).run()


def _open_store(load: LoadEngine, model: bytes) -> PrefixStore | None:
    """Open the folder of stored prefixes; None when none is wanted or the folder cannot be used."""
    if load.prefix_folder is None or not load.params.prefix_disk_bytes:
        return None
    try:
        return PrefixStore(Path(load.prefix_folder), model, load.params.prefix_disk_bytes)
    except OSError:
        return None


if __name__ == "__main__":
    child_main(_serve, ToEngine)
