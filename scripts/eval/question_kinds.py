"""How a small model answers each kind of question: made by rules about pages kept from training.

    GOMP_SPINCOUNT=1000 .venv/bin/python scripts/eval/question_kinds.py TEXT_FOLDER [--model NAME] [--answers 1000]

Greedy and free, through the product's engine, each turn after the wanted answers to those before it. Told of each
manner of answer, and of questions about the passages of earlier turns: how many answers are word for word the wanted
one, and how many are of the wanted manner.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

from reader.corpus import read_corpus
from reader.examples import Examples, Message, manner
from reader_model import Reader, share

from models.catalog import resolve_chat

_SEED = 11
_FOLLOW_UP = "about earlier passages"


def asked(examples: Examples, count: int) -> Iterator[tuple[Sequence[Message], str]]:
    """Conversations up to a question, and the answer that is wanted."""
    made = 0
    while made < count:
        messages = examples.next()
        for i, message in enumerate(messages):
            if message.role == "assistant":
                made += 1
                yield messages[:i], message.text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", default="reader-v1")
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if os.environ.get("GOMP_SPINCOUNT") != "1000":
        parser.error("set GOMP_SPINCOUNT=1000, as the server does for its engine")
    reader = Reader(resolve_chat(options.model), options.threads)
    exact, of_kind = defaultdict[str, list[bool]](list), defaultdict[str, list[bool]](list)
    for messages, wanted in asked(Examples(read_corpus(options.text), _SEED, held_out=True), options.answers):
        prompt = reader.rendered([(each.role, each.lead + each.text) for each in messages])
        if len(prompt) + 200 > reader.n_ctx:
            continue
        said, *_ = reader.answer(prompt)
        kinds = {manner(wanted)}
        if not messages[-1].sentences and any(each.sentences for each in messages):
            kinds.add(_FOLLOW_UP)
        for kind in kinds:
            exact[kind].append(said == wanted)
            of_kind[kind].append(manner(said) == manner(wanted))
    for kind in exact:
        print(f"{kind}: as wanted {share(exact[kind])}, of this manner {share(of_kind[kind])}")


if __name__ == "__main__":
    main()
