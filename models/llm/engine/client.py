"""The server's side of an engine process."""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from pathlib import Path

from models.client import ProcessClient, deliver_replies, open_process
from models.errors import ContextLengthExceeded, ProcessFailed, QueueFull
from models.llm.constraints.forms import ConstraintForm
from models.llm.engine.messages import Cancel, Delta, Deltas, EngineReady, FromEngine, Generate, LoadEngine
from models.llm.engine.meter import Meter, NoMeter
from models.llm.params import Adapter, EngineParams, Priority, SamplingParams

# ggml's threads meet at a barrier after every operation. With libgomp's long default spin, one busy process beside the
# engine makes decode speed collapse; a short spin costs nothing on a quiet machine (docs/architecture.md, Chat first).
# When llama.cpp aborts, it would start a debugger, if there is one, to print a backtrace.
_ENVIRONMENT = {"GOMP_SPINCOUNT": "1000", "GGML_NO_BACKTRACE": "1"}


class EngineClient(ProcessClient[EngineReady, Delta]):
    params: EngineParams
    meter: Meter = NoMeter()

    async def generate(
        self,
        prompt: list[int],
        max_tokens: int,
        sampling: SamplingParams,
        *,
        choices: list[list[int]] | None = None,
        constraint: ConstraintForm | None = None,
        client: str = "",
        priority: Priority = Priority.INTERACTIVE,
    ) -> AsyncGenerator[Delta, None]:
        """Yield the answer's deltas as they are computed; the last has a finish reason. Closing the generator cancels.

        Raises `ContextLengthExceeded` and `QueueFull` before anything is sent, and `ProcessFailed` when the engine
        fails this request or ends.
        """
        if len(prompt) >= self.ready.n_ctx:
            raise ContextLengthExceeded(len(prompt), self.ready.n_ctx)
        if self.num_pending >= self.params.num_slots + self.params.max_queue:
            raise QueueFull(self.num_pending - self.params.num_slots, retry_after=2)
        replies = self.exchange(
            lambda id: Generate(id, prompt, max_tokens, sampling, choices, constraint, client, priority), Cancel
        )
        last, has_begun = time.monotonic(), False
        async with contextlib.aclosing(replies):
            async for delta in replies:
                if delta.error is not None:
                    raise ProcessFailed("engine", delta.error)
                now = time.monotonic()
                if has_begun:
                    self.meter.observe_interval(now - last)
                else:
                    self.meter.observe_first_token(now - last, len(prompt), delta.num_cached)
                self.meter.observe_tokens(len(delta.tokens))
                last, has_begun = now, True
                yield delta
                if delta.is_last:
                    return


def _replies_of(frame: FromEngine) -> Iterable[tuple[int, Delta]]:
    return ((delta.id, delta) for delta in frame.deltas) if isinstance(frame, Deltas) else ()


@contextlib.asynccontextmanager
async def open_engine(
    path: Path,
    params: EngineParams,
    prefix_folder: Path | None = None,
    adapters: Sequence[Adapter] = (),
    meter: Meter | None = None,
) -> AsyncIterator[EngineClient]:
    """Start an engine process for a GGUF and wait until it is loaded. Raises `ProcessFailed` when it cannot be.

    `prefix_folder`: where the engine keeps prefixes over restarts; None: nowhere.
    """
    load = LoadEngine(str(path), params, str(prefix_folder) if prefix_folder else None, tuple(adapters))
    opening = open_process("engine", "models.llm.llama.process", FromEngine, _ENVIRONMENT, load, EngineReady)
    async with opening as (child, ready):
        client = EngineClient(child, ready, _replies_of)
        client.params = params
        client.meter = meter or client.meter
        async with deliver_replies(client):
            yield client
