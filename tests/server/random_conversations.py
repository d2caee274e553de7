"""Random conversations with a scripted index and model, for tests and scripts/prove/conversations.py."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import cast

from index.search.retriever import Retriever
from index.types import Passage, Query
from models.encoder.client import EncoderClient
from models.errors import ContextLengthExceeded
from models.llm.chat.messages import ChatMessage
from server.rag.memory import TurnMemory
from server.rag.pipeline import GroundedPrompt, RagPipeline
from server.rag.prompts import NOTHING_FOUND, SYSTEM
from server.rag.request import GroundingRequest, SourceLayout
from server.resources.search import SearchService
from server.storage.sqlite.turns import SqliteTurnStore
from tests.models.scripted import ScriptedChatModel, render

_NOTE = f"{NOTHING_FOUND}\n\n"
_WORDS = [f"word{i}" for i in range(40)]


def passage(number: int, size: int) -> Passage:
    text = f"Passage {number} " + "says so. " * size
    return Passage(number, number // 3, "notes", f"{number // 3}.md", (), text.strip(), 10 * number, 10 * number, 0.5)


class NumberIndex:
    """A fake retriever that finds passages by the numbers in a question."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes

    async def search(self, queries: Sequence[Query], *_: object) -> list[Passage]:
        numbers = [int(word) for word in queries[0].text.split() if word.isdecimal()]
        return [passage(number, self._sizes[number]) for number in numbers]


class Conversation:
    """The conversation of one client, with checks of every prompt."""

    def __init__(
        self, rag: RagPipeline, random: Random, n_ctx: int, counts: Counter[str], *, is_forgotten: bool
    ) -> None:
        self._rag = rag
        self._random = random
        self._model = ScriptedChatModel()
        self._model.context_length = n_ctx
        self._layout = SourceLayout(question_first=random.random() < 0.5)
        self._counts = counts
        self._is_forgotten = is_forgotten  # as soon as there is more to remember
        self.messages: list[ChatMessage] = []
        self._before: tuple[list[ChatMessage], GroundedPrompt] | None = None  # the last request

    async def ask(self, question: str) -> None:
        """Ask, check the prompt, and append a reply. A conversation too long for any prompt begins again."""
        self.messages.append(ChatMessage.of_text("user", question))
        try:
            request = GroundingRequest(self.messages, self._model, self._layout, max_tokens=20)
            grounded = await self._rag.ground(request)
        except ContextLengthExceeded:
            bare = [ChatMessage.of_text("system", SYSTEM), *self.messages]
            assert len(render(bare).tokens) + len("Question: ") * len(bare) + 100 >= self._model.context_length
            self._counts["too long"] += 1
            self.messages, self._before = [], None
            return
        self._check(grounded)
        self._before = list(self.messages), grounded
        reply = ChatMessage.of_text("assistant", f"So it is{''.join(f' [{number}]' for number in grounded.sources)}.")
        assert grounded.record is not None
        self._rag.remember(grounded.record, reply)
        self.messages.append(reply)

    def _check(self, grounded: GroundedPrompt) -> None:
        text = "".join(map(chr, grounded.prompt.tokens))
        assert len(grounded.prompt.tokens) < self._model.context_length
        at = -1
        for message in self.messages:
            at = text.index(message.text, at + 1)  # every turn is there, and in order
        self._counts["turns"] += 1
        for number, source in grounded.sources.items():
            assert text.count(f"[{number}] {source.label}\n{source.text}") == 1
        assert len({source.text for source in grounded.sources.values()}) == len(grounded.sources)
        self._counts["dropped"] += len(grounded.report.dropped)
        if not grounded.report.sources and not grounded.report.earlier and not grounded.report.dropped:
            assert NOTHING_FOUND in text
        self._compare(grounded)

    def _compare(self, grounded: GroundedPrompt) -> None:
        """Compare with the request before, if this one continues it."""
        if self._before is None or self.messages[: len(self._before[0])] != self._before[0]:
            return
        before = self._before[1]
        for number, source in grounded.sources.items():
            assert before.sources.get(number, source) == source, "a number means one passage for the whole conversation"
        if self._is_forgotten:
            self._counts["forgotten"] += not before.sources.keys() <= grounded.sources.keys()
        elif before.sources.keys() <= grounded.sources.keys():
            shared = before.prompt.tokens[:-1]
            if grounded.prompt.tokens[: len(shared)] == shared:
                self._counts["continued"] += 1
                return
            assert _text_without_notes(grounded).startswith(_text_without_notes(before)[:-1]), (
                "what was said stays as it was"
            )
            with_notes = len(grounded.prompt.tokens) + len(_NOTE) * len(self.messages)
            assert with_notes >= self._model.context_length, "token by token, but for notes that had no room"
            self._counts["notes gave way"] += 1
        else:
            self._counts["earlier passages gave way"] += 1

    def change(self) -> None:
        """Edit a message, or go back to one."""
        if self.messages:
            at = self._random.randrange(0, len(self.messages), 2)
            self.messages = self.messages[:at]
            self._counts["branched"] += 1


async def converse(folder: Path, random: Random, num_conversations: int) -> Counter[str]:
    counts = Counter[str]()
    for number in range(num_conversations):
        index = NumberIndex([random.randint(1, 60) for _ in range(40)])
        is_forgotten = random.random() < 0.2
        memory_bytes = 2000 if is_forgotten else 1_000_000
        with SqliteTurnStore(folder / f"{number}.sqlite3", memory_bytes) as turns:
            memory = TurnMemory(turns)

            def rag(memory: TurnMemory = memory, index: NumberIndex = index) -> RagPipeline:
                search = SearchService(lambda: cast(Retriever, index), lambda: cast(EncoderClient, None))
                return RagPipeline(search, memory, 4)

            n_ctx = random.choice([900, 2000, 5000])
            conversation = Conversation(rag(), random, n_ctx, counts, is_forgotten=is_forgotten)
            for _ in range(random.randint(1, 12)):
                if random.random() < 0.1:
                    conversation.change()
                await conversation.ask(question(random))
    return counts


def _text_without_notes(grounded: GroundedPrompt) -> str:
    return "".join(map(chr, grounded.prompt.tokens)).replace(_NOTE, "")


def question(random: Random) -> str:
    numbers = random.sample(range(40), random.choice([0, 1, 2, 4]))
    return " ".join([*random.choices(_WORDS, k=random.randint(1, 12)), *map(str, numbers), f"{random.random()}?"])


def run(folder: Path, seed: int, num_conversations: int) -> Counter[str]:
    return asyncio.run(converse(folder, Random(seed), num_conversations))
