"""Compare two searches for follow-up questions: the last turn alone, and the queries of `search_queries`.

    .venv/bin/python scripts/eval/followups.py [FOLDER] [--embedder NAME|FOLDER] [--misses]

FOLDER (tests/eval) holds `manual/`, the documents, and `followups.jsonl`: one conversation a line, with its turns in
order, and the file and heading that answer its last turn. The kinds are `ellipsis` ("And on macOS?"), `reference` ("How
large may it be?") and `switch`: the last turn is about another topic, and the old one must not influence the search.
Conversations with `unseen` were written after the weights and rules had been chosen on the others. The rank of a
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
from local_search import QueryEmbedderInProcess, index_folder, open_named_embedder

from index.search.retriever import Retriever
from index.types import Query
from models.catalog import resolve_embedding
from models.llm.chat.messages import ChatMessage
from server.rag.followups import search_queries

_DEPTH = 10


class Conversation(msgspec.Struct, frozen=True):
    kind: str
    turns: list[str]  # alternately the user's and the assistant's
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
    to_queries: Callable[[Sequence[ChatMessage]], Sequence[Query]],
) -> list[int]:
    """Return the rank of the expected section for each conversation; 0 where it is not found."""
    ranks_of_sections = []
    for each in conversations:
        passages = await retriever.search(to_queries(each.messages), embedder, _DEPTH)
        sections = list(dict.fromkeys((p.path, *p.heading[-1:]) for p in passages))
        expected = (each.path, each.heading)
        ranks_of_sections.append(sections.index(expected) + 1 if expected in sections else 0)
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
    parser.add_argument("--misses", action="store_true", help="print the conversations whose section is not first")
    options = parser.parse_args()
    lines = (options.folder / "followups.jsonl").read_text().splitlines()
    conversations = [msgspec.json.decode(line, type=Conversation) for line in lines]
    embedder, chunk_tokens = open_named_embedder(options.embedder, 0), resolve_embedding(options.embedder).chunk_tokens
    with tempfile.TemporaryDirectory() as data:
        index_folder(options.folder / "manual", embedder, Path(data), chunk_tokens)
        with Retriever(Path(data), embedder.fingerprint, embedder.dimension) as retriever:
            query_embedder = QueryEmbedderInProcess(embedder)
            alone = asyncio.run(
                ranks(retriever, query_embedder, conversations, lambda messages: [Query(messages[-1].text)])
            )
            fused = asyncio.run(ranks(retriever, query_embedder, conversations, search_queries))
    for name, kinds, unseen in (
        ("follow-ups", ("ellipsis", "reference"), (False, True)),
        ("ellipses only", ("ellipsis",), (False, True)),
        ("follow-ups, unseen", ("ellipsis", "reference"), (True,)),
        ("topic switches", ("switch",), (False, True)),
        ("topic switches, unseen", ("switch",), (True,)),
    ):
        indexes = [at for at, each in enumerate(conversations) if each.kind in kinds and each.unseen in unseen]
        print(f"{name}: {len(indexes)} conversations")
        print_figures("last turn alone", [alone[at] for at in indexes])
        print_figures("with the conversation", [fused[at] for at in indexes])
    if options.misses:
        for each, rank in zip(conversations, fused, strict=True):
            if rank != 1:
                print(f"{rank or '–':>3} {each.kind:9} {each.turns[-1]}  → {each.path}, {each.heading}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
