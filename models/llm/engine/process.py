"""The engine process: one loaded GGUF, and the loop that steps it. `python -m models.llm.engine.process FD`."""

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
from models.llm.engine.preparation import GrammarCompiler, Prepared
from models.llm.engine.scheduler import Scheduler
from models.llm.kv.disk_cache import DiskKVCache
from models.llm.kv.offload import KVOffload
from models.llm.kv.prefix_store import PrefixStore

_REST_S = 0.5  # without a request before prefixes are written to disk
_LAST_WRITES_S = 3.0  # for what conversations left off with, when the server stops


class _Grammars:
    """Makes grammars for the vocabulary of a model, which is prepared when the first is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokenizer: GrammarTokenizer | None = None
        self._preparing = threading.Lock()

    def __call__(self, constraint: ConstraintForm) -> Grammar:
        from models.llm.llama.vocabulary import Vocabulary

        with self._preparing:
            if self._tokenizer is None:
                self._tokenizer = GrammarTokenizer(Vocabulary(self._path))
        return Grammar(self._tokenizer, constraint)


class _Loop:
    """Messages in, steps, messages out, until the server closes its end."""

    def __init__(
        self,
        inbox: Inbox[ToEngine | Prepared],
        engine: Engine,
        preparation: GrammarCompiler,
        parking: KVOffload,
        archive: DiskKVCache | None,
    ) -> None:
        self._inbox = inbox
        self._engine = engine
        self._preparation = preparation
        self._parking = parking
        self._archive = archive
        self._is_rested = True  # nothing has come since there was nothing left to write

    def run(self) -> None:
        while (messages := self._inbox.take(self._poll_timeout)) is not None:
            for message in messages:
                self._is_rested = False
                if told := self._take(message):
                    self._inbox.send(Deltas(told))
            if not self._engine.is_idle:
                self._parking.before_step()
                if deltas := self._engine.step():
                    self._inbox.send(Deltas(deltas))
            elif not messages:
                self._is_rested = self._archive is None or not self._archive.keep_next()
        if self._archive is not None:
            self._archive.keep_recent(_LAST_WRITES_S)

    @property
    def _poll_timeout(self) -> float | None:
        """Seconds to wait for a message; None: until one comes."""
        if not self._engine.is_idle:
            return 0
        return None if self._is_rested else _REST_S

    def _take(self, message: ToEngine | Prepared) -> list[Delta]:
        match message:
            case Generate():
                saved = self._archive.find(message.prompt) if self._archive else None
                if message.constraint is None and saved is None:
                    return self._engine.add(message)
                self._preparation.submit(message, saved)
            case Prepared() if self._preparation.is_wanted(message):
                return self._add(message)
            case Cancel(id):
                self._preparation.cancel(id)
                self._engine.cancel(id)
        return []

    def _add(self, prepared: Prepared) -> list[Delta]:
        request = prepared.request
        if prepared.error is not None:
            return [Delta(request.id, [], error=prepared.error)]
        if self._archive and prepared.saved is not None and prepared.state is not None:
            self._archive.restore(prepared.saved, prepared.state, request.prompt)
        return self._engine.add(request, prepared.grammar)


def _serve(inbox: Inbox[ToEngine | Prepared]) -> None:
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
            pace=PrefillBudget(runner.limits.n_batch),
            prompt_lookup=load.params.prompt_lookup and runner.limits.supports_partial_removal,
        )
        store = _open_store(load, runner.identity)
        n_parked = runner.limits.n_ctx if load.params.n_parked < 0 else load.params.n_parked
        parking = KVOffload(scheduler, runner, n_parked)
        archive = stack.enter_context(DiskKVCache(store, scheduler, runner, parking)) if store is not None else None
        preparation = stack.enter_context(GrammarCompiler(_Grammars(path), store, inbox.post))
        inbox.send(EngineReady(runner.limits.n_ctx, runner.num_params, runner.size))
        _Loop(inbox, engine, preparation, parking, archive).run()


def _open_store(load: LoadEngine, model: bytes) -> PrefixStore | None:
    """None where none is wanted, or the folder cannot be used: answers go on without."""
    if load.prefix_folder is None or not load.params.prefix_disk:
        return None
    try:
        return PrefixStore(Path(load.prefix_folder), model, load.params.prefix_disk)
    except OSError:
        return None


if __name__ == "__main__":
    child_main(_serve, ToEngine)
