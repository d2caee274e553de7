"""Compares two searches for follow-up questions: the last turn alone, and the queries of `search_queries`.

    .venv/bin/python scripts/eval/followups.py [FOLDER] [--embedder NAME|FOLDER] [--misses]

FOLDER (tests/eval) holds `manual/`, the documents, and `followups.jsonl`: a conversation a line, its turns in order,
and the file and heading that answer its last one. Its kind is `ellipsis` ("And on macOS?"), `reference` ("How large may
it be?") or `switch`: the last turn is about something else, and the old subject must not be dragged along.
Conversations marked `unseen` were written after the weights and rules had been chosen on the others. The rank of a
section is that of its first passage among ten.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from retrieval import QueryEmbedderInProcess, index_folder

from index.search.retriever import Retriever
from index.types import Query
from models.catalog import resolve_embedding
from models.encoder.embedder import open_embedder
from models.encoder.model_exports import ModelExports
from models.llm.chat.messages import ChatMessage
from server.rag.followups import search_queries
from server.settings.settings import Settings

_DEPTH = 10


class Conversation(msgspec.Struct, frozen=True):
    kind: str
    turns: list[str]  # of a user and an assistant, alternately
    path: str
    heading: str
    unseen: bool = False

    @property
    def messages(self) -> list[ChatMessage]:
        return [ChatMessage.of_text("assistant" if at % 2 else "user", text) for at, text in enumerate(self.turns)]


async def ranks(
    retriever: Retriever,
    embedder: QueryEmbedderInProcess,
    conversations: Sequence[Conversation],
    ask: Callable[[Sequence[ChatMessage]], Sequence[Query]],
) -> list[int]:
    """Return the rank of the expected section for each conversation; 0 where it is not found."""
    ranks_of_sections = []
    for each in conversations:
        passages = await retriever.search(ask(each.messages), embedder, _DEPTH)
        sections = list(dict.fromkeys((p.path, *p.heading[-1:]) for p in passages))
        wanted = (each.path, each.heading)
        ranks_of_sections.append(sections.index(wanted) + 1 if wanted in sections else 0)
    return ranks_of_sections


def print_figures(name: str, ranks_of_sections: Sequence[int]) -> None:
    recall = np.mean([0 < rank <= 5 for rank in ranks_of_sections])
    reciprocal = np.mean([1 / rank if rank else 0 for rank in ranks_of_sections])
    gain = np.mean([1 / np.log2(rank + 1) if rank else 0 for rank in ranks_of_sections])
    print(f"  {name:28} Recall@5 {recall:.2f}   MRR@10 {reciprocal:.3f}   nDCG@10 {gain:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[2] / "tests" / "eval")
    parser.add_argument("--embedder", default="all-MiniLM-L6-v2")
    parser.add_argument("--misses", action="store_true", help="also the conversations whose section is not first")
    options = parser.parse_args()
    lines = (options.folder / "followups.jsonl").read_text().splitlines()
    conversations = [msgspec.json.decode(line, type=Conversation) for line in lines]
    preparation = ModelExports(Settings().cache_folder, "auto")
    embedding = resolve_embedding(options.embedder)
    embedder = open_embedder(asyncio.run(preparation.files(embedding, "embedding")), 0)
    with tempfile.TemporaryDirectory() as data:
        index_folder(options.folder / "manual", embedder, Path(data), embedding.chunk_tokens)
        with Retriever(Path(data), embedder.fingerprint, embedder.dimension) as retriever:
            asking = QueryEmbedderInProcess(embedder)
            alone = asyncio.run(ranks(retriever, asking, conversations, lambda told: [Query(told[-1].text)]))
            fused = asyncio.run(ranks(retriever, asking, conversations, search_queries))
    for name, kinds, unseen in (
        ("follow-ups", ("ellipsis", "reference"), (False, True)),
        ("of them ellipses", ("ellipsis",), (False, True)),
        ("follow-ups, unseen", ("ellipsis", "reference"), (True,)),
        ("topic switches", ("switch",), (False, True)),
        ("topic switches, unseen", ("switch",), (True,)),
    ):
        chosen = [at for at, each in enumerate(conversations) if each.kind in kinds and each.unseen in unseen]
        print(f"{name}: {len(chosen)} conversations")
        print_figures("last turn alone", [alone[at] for at in chosen])
        print_figures("with the conversation", [fused[at] for at in chosen])
    if options.misses:
        for each, rank in zip(conversations, fused, strict=True):
            if rank != 1:
                print(f"{rank or '–':>3} {each.kind:9} {each.turns[-1]}  → {each.path}, {each.heading}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
