"""Clients with real processes: the engine with the built-in model, the encoder with the bundled embedding model."""

import asyncio
import contextlib
import functools
import os
import signal
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.catalog import resolve_chat
from models.encoder.client import open_encoder
from models.encoder.conversion import convert
from models.encoder.exports import source_of
from models.encoder.messages import ModelFiles
from models.errors import ContextLengthExceeded, ModelError, ProcessFailed, QueueFull
from models.llm.engine.client import EngineClient, open_engine
from models.llm.engine.sequence import FinishReason
from models.llm.llama.vocabulary import Vocabulary
from models.llm.params import EngineParams, SamplingParams

BUILTIN = resolve_chat("reader-v1").path
PARAMS = EngineParams(n_ctx=256, num_slots=2, n_batch=64, num_threads=1, max_queue=6)
GREEDY = SamplingParams(temperature=0)
WORD = 500
ENDLESS = SamplingParams(temperature=0, logit_bias={WORD: 1000.0})


@functools.cache
def question() -> list[int]:
    text = "Question: How long are backups kept?"
    source = f"{text}\n\n[1] leave.md\nBackups are kept for 30 days.\n\n{text}"
    with Vocabulary(BUILTIN) as vocabulary:
        return vocabulary.tokenize(f"<|user|>\n{source}<|end|>\n<|assistant|>\n", parse_special=True)


async def answer(
    client: EngineClient, prompt: list[int] | None = None, sampling: SamplingParams = GREEDY, max_tokens: int = 24
) -> tuple[list[int], FinishReason | None]:
    tokens: list[int] = []
    reason = None
    async with contextlib.aclosing(client.generate(prompt or question(), max_tokens, sampling)) as deltas:
        async for delta in deltas:
            assert reason is None
            tokens += delta.tokens
            reason = delta.finish_reason
    return tokens, reason


async def begin(client: EngineClient, has_begun: asyncio.Event, max_tokens: int = 10_000) -> None:
    """Generate until the context is full, and set `begun` when the first token has come."""
    async with contextlib.aclosing(client.generate([WORD], max_tokens, ENDLESS)) as deltas:
        async for _ in deltas:
            has_begun.set()


async def failure(client: EngineClient, has_begun: asyncio.Event) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await begin(client, has_begun)
    return caught.value


def mapped_files(pid: int) -> str:
    """Return the files that a process has mapped into its memory (Linux; elsewhere "")."""
    maps = Path(f"/proc/{pid}/maps")
    return maps.read_text() if maps.exists() else ""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("n_batch", "num_slots", "num_cached_prefixes"), [(8, 8, 32), (47, 8, 32), (48, 8, 32), (1, 1, 0), (64, 64, 128)]
)
def test_n_batch_may_be_less_than_the_number_of_sequences(
    n_batch: int, num_slots: int, num_cached_prefixes: int
) -> None:
    small = msgspec.structs.replace(
        PARAMS, n_batch=n_batch, num_slots=num_slots, num_cached_prefixes=num_cached_prefixes
    )

    async def ask(params: EngineParams) -> list[int]:
        async with open_engine(BUILTIN, params) as client:
            return (await answer(client))[0]

    assert asyncio.run(ask(small)) == asyncio.run(ask(PARAMS))


def test_a_question_is_answered() -> None:
    async def scenario() -> tuple[list[int], FinishReason | None]:
        async with open_engine(BUILTIN, PARAMS) as client:
            assert client.ready.n_ctx == 256
            assert client.ready.num_params > 1_000_000
            return await answer(client)

    tokens, reason = asyncio.run(scenario())
    with Vocabulary(BUILTIN) as vocabulary:
        assert "30 days. [1]" in b"".join(map(vocabulary.piece, tokens)).decode()
    assert reason is FinishReason.STOP


class RecordingMeter:
    """Keeps all measurements."""

    def __init__(self) -> None:
        self.prompts: list[tuple[int, int]] = []
        self.num_tokens = 0
        self.waits: list[float] = []

    def observe_first_token(self, wait_s: float, num_prompt: int, num_cached: int) -> None:
        self.prompts.append((num_prompt, num_cached))
        self.waits.append(wait_s)

    def observe_tokens(self, num_tokens: int) -> None:
        self.num_tokens += num_tokens

    def observe_interval(self, wait_s: float) -> None:
        self.waits.append(wait_s)


def test_the_meter_counts_prompts_cached_tokens_and_generated_tokens() -> None:
    meter = RecordingMeter()

    async def run() -> int:
        async with open_engine(BUILTIN, PARAMS, meter=meter) as client:
            return sum([len((await answer(client))[0]) for _ in range(2)])

    num_tokens = asyncio.run(run())
    (first, second), size = meter.prompts, len(question())
    assert (first, second[0]) == ((size, 0), size)
    assert second[1] > size // 2
    assert meter.num_tokens == num_tokens
    assert 2 <= len(meter.waits) <= num_tokens
    assert min(meter.waits) >= 0


def test_concurrent_requests_get_the_answer_that_one_alone_gets() -> None:
    async def scenario() -> None:
        async with open_engine(BUILTIN, PARAMS) as client:
            alone = await answer(client)
            together = await asyncio.gather(*(answer(client) for _ in range(8)))
            assert together == [alone] * 8
            assert client.num_pending == 0

    asyncio.run(scenario())


def test_a_guided_choice_is_one_of_the_choices() -> None:
    async def scenario() -> None:
        choices = [[WORD, WORD], [WORD, WORD + 1]]
        async with (
            open_engine(BUILTIN, PARAMS) as client,
            contextlib.aclosing(client.generate(question(), 24, GREEDY, choices=choices)) as deltas,
        ):
            assert [token async for delta in deltas for token in delta.tokens] in choices

    asyncio.run(scenario())


def test_closing_the_generator_cancels_the_request() -> None:
    async def scenario() -> None:
        params = EngineParams(n_ctx=4096, num_slots=1, n_batch=64, num_threads=1)
        async with open_engine(BUILTIN, params) as client:
            started = time.perf_counter()
            async with contextlib.aclosing(client.generate([WORD], 10_000, ENDLESS)) as deltas:
                for _ in range(50):
                    await anext(deltas)
            time_of_50 = time.perf_counter() - started
            assert client.num_pending == 0
            started = time.perf_counter()
            assert await answer(client, max_tokens=2) == ((await answer(client))[0][:2], FinishReason.LENGTH)
            # Without cancellation the first request would hold the only slot for 4,000 tokens more, and slower ones.
            assert time.perf_counter() - started < 40 * time_of_50

    asyncio.run(scenario())


def test_cancelling_the_waiting_task_cancels_the_request() -> None:
    async def scenario() -> None:
        async with open_engine(BUILTIN, PARAMS) as client:
            begun = asyncio.Event()
            task = asyncio.create_task(begin(client, begun))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.num_pending == 0
            assert (await answer(client))[1] is FinishReason.STOP

    asyncio.run(scenario())


def test_a_prompt_as_long_as_n_ctx_raises_with_both_numbers() -> None:
    async def scenario() -> None:
        async with open_engine(BUILTIN, PARAMS) as client:
            for size in (256, 1000):
                with pytest.raises(ContextLengthExceeded) as caught:
                    await answer(client, [WORD] * size)
                assert (caught.value.num_prompt, caught.value.n_ctx) == (size, 256)
            tokens, reason = await answer(client, [WORD] * 255, ENDLESS)
            assert (len(tokens), reason) == (1, FinishReason.LENGTH)

    asyncio.run(scenario())


def test_one_request_above_max_queue_raises_queue_full() -> None:
    async def scenario() -> None:
        async with open_engine(BUILTIN, PARAMS) as client:
            begun = asyncio.Event()
            tasks = [asyncio.create_task(begin(client, begun)) for _ in range(PARAMS.num_slots + PARAMS.max_queue)]
            await begun.wait()
            with pytest.raises(QueueFull) as caught:
                await answer(client)
            assert (caught.value.num_waiting, caught.value.retry_after > 0) == (PARAMS.max_queue, True)
            tasks[0].cancel()
            await asyncio.wait([tasks[0]])
            assert (await answer(client))[1] is FinishReason.STOP
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    asyncio.run(scenario())


def test_a_killed_process_fails_waiting_and_later_requests_at_once() -> None:
    async def scenario() -> None:
        async with open_engine(BUILTIN, EngineParams(n_ctx=4096, num_slots=2, num_threads=1)) as client:
            begun = asyncio.Event()
            waiting = [asyncio.create_task(failure(client, begun)) for _ in range(6)]
            await begun.wait()
            os.kill(client.pid, signal.SIGKILL)
            async with asyncio.timeout(3):
                assert await client.wait_for_exit() == "the process was ended by SIGKILL"
                failures = await asyncio.gather(*waiting)
                failures.append(await failure(client, begun))
        assert {type(error) for error in failures} == {ProcessFailed}
        assert {str(error) for error in failures} == {"engine: the process was ended by SIGKILL"}

    asyncio.run(scenario())


def test_closing_ends_the_process_and_fails_waiting_requests() -> None:
    async def scenario() -> None:
        begun = asyncio.Event()
        async with open_engine(BUILTIN, PARAMS) as client:
            waiting = [asyncio.create_task(failure(client, begun)) for _ in range(4)]
            await begun.wait()
        assert {type(error) for error in await asyncio.gather(*waiting)} == {ProcessFailed}
        assert await client.wait_for_exit() == "the server is stopping"
        assert not is_running(client.pid)

    asyncio.run(scenario())


def test_a_failed_batch_fails_its_own_request_only() -> None:
    async def scenario() -> None:
        async with open_engine(BUILTIN, PARAMS) as client:
            with pytest.raises(ProcessFailed, match="llama_decode"):
                await answer(client, [WORD, 8192])
            assert (await answer(client))[1] is FinishReason.STOP

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [None, 0, 3, 20_000, 1_000_000], ids=["missing", "empty", "3", "20000", "1000000"])
def test_a_damaged_model_file_fails_with_a_one_line_reason(tmp_path: Path, size: int | None) -> None:
    async def scenario() -> None:
        path = tmp_path / "damaged.gguf"
        if size is not None:
            path.write_bytes(BUILTIN.read_bytes()[:size])
        with pytest.raises(ProcessFailed, match=r"damaged\.gguf") as caught:
            async with open_engine(path, PARAMS):
                pass
        assert "\n" not in caught.value.reason

    asyncio.run(scenario())


@pytest.mark.timeout(120)
def test_the_encoder_returns_unit_vectors_that_are_near_for_similar_texts(minilm: ModelFiles) -> None:
    async def scenario() -> None:
        async with open_encoder(minilm, num_threads=2) as client:
            texts = [
                "How long is parental leave?",
                "Mothers and fathers may stay at home for 16 weeks.",
                "Rust on iron.",
            ]
            query, parts, again = await asyncio.gather(
                client.embed_queries(texts[:1]),
                client.embed_parts(texts, "document", is_low_priority=True),
                client.embed_parts(texts[2:], "document"),
            )
            vectors = np.concatenate([each.vectors for each in parts])
            assert vectors.shape == (3, client.ready.dimension)
            assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
            near, far = vectors[1:] @ query[0]
            assert near > far + 0.2
            assert np.array_equal(again[0].vectors[0], vectors[2])  # the vector does not depend on the batch
            assert [len(each.tokens) for each in parts] == [1, 1, 1]
            with pytest.raises(ProcessFailed, match="no reranker"):
                await client.rerank(texts[0], texts[1:])
            (long, short) = await client.embed_parts(["word " * 1000, "word"], "query")
            assert sum(long.tokens) == 1000 + 2 * len(long.tokens)
            assert max(long.tokens) <= client.ready.max_tokens
            assert long.vectors.shape == (len(long.tokens), client.ready.dimension)
            assert (short.tokens, short.vectors.shape) == ([3], (1, client.ready.dimension))
            assert "torch" not in mapped_files(client.pid)
            assert (await client.embed_queries([])).shape == (0, client.ready.dimension)
            begun = asyncio.create_task(client.embed_parts(["word " * 500] * 2000, "document"))
            while client.num_pending == 0:
                await asyncio.sleep(0)
            os.kill(client.pid, signal.SIGKILL)
            with pytest.raises(ProcessFailed, match="ended"):
                await begun
        assert not is_running(client.pid)

    asyncio.run(scenario())


@pytest.mark.timeout(120)
def test_the_encoder_puts_the_model_s_prompt_before_each_part(tiny_embedder: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        source, export = source_of(tiny_embedder, "embedding"), tmp_path / "export"
        await asyncio.to_thread(convert, tiny_embedder, source, export, "embedding")
        async with open_encoder(ModelFiles(str(tiny_embedder), source, str(export)), num_threads=1) as client:
            texts = ["parental leave", "iron, water " * 40]
            queries, documents = [await client.embed_parts(texts, kind) for kind in ("query", "document")]
            assert np.array_equal(queries[0].vectors, await client.embed_queries(texts[:1]))
            assert queries[0].vectors @ documents[0].vectors.T < 0.99
            # "how long: " has three tokens, "rust, water: " four; the model reads 48, with its start and end tokens.
            for parts, prompt in ((queries[1], 3), (documents[1], 4)):
                assert sum(parts.tokens) == 120 + len(parts.tokens) * (2 + prompt)
                assert max(parts.tokens) <= 48

    asyncio.run(scenario())


@pytest.mark.timeout(120)
def test_a_folder_without_embedding_model_fails_with_a_one_line_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(ProcessFailed, match=tmp_path.name) as caught:
            async with open_encoder(ModelFiles(str(tmp_path), "0", None)):
                pass
        assert "\n" not in caught.value.reason

    asyncio.run(scenario())
