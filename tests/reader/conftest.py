"""A small corpus of generated pages and questions, and a tokenizer trained on it."""

import gzip
import json

import pytest
from reader.corpus import Corpus, read_corpus
from reader.tokens import train_tokenizer
from tokenizers import Tokenizer

THINGS = ("kettle", "lantern", "harbour", "orchard", "compass", "violin", "glacier", "beacon", "furnace", "meadow")


def _page(number: int) -> dict[str, object]:
    thing, other = THINGS[number % 10], THINGS[(number * 7 + 3) % 10]
    return {
        "path": f"guides/{thing}-{number}.md",
        "paragraphs": [
            [
                f"The {thing} number {number} is kept beside the {other} in winter.",
                f"It holds {number + 2} litres because the {other} leaks.",
            ],
            [
                f"Use the lever to open the {thing} before the {other} grows warm.",
                f"The keeper of the {thing} must not repair it alone.",
            ],
        ],
    }


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("text")
    with gzip.open(folder / "paragraphs.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(_page(number)) + "\n" for number in range(120))
    documents, questions = {}, []
    for id in range(6):
        text = f"Title\n\n  Work on mill {id} began in 19{id}1 near a river. Its wheel was built by the miller's son."
        documents[str(id)] = text
        questions += [
            {"question": "Who built the wheel?", "document_id": str(id), "answer_start": text.index("the miller's"),
             "answer": "the miller's son"},
            {"question": "When did it begin?", "document_id": str(id), "answer_start": 0, "answer": "Title"},
        ]  # fmt: skip
    (folder / "questions").mkdir()
    with gzip.open(folder / "questions" / "covidqa.json.gz", "wt", encoding="utf-8") as file:
        json.dump({"documents": documents, "questions": questions}, file)
    return read_corpus(folder)


@pytest.fixture(scope="session")
def tokenizer(corpus: Corpus) -> Tokenizer:
    return train_tokenizer([text for page in corpus.pages for text in page.paragraphs], 512)
