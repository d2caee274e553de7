"""Train the built-in model from scratch, or write a checkpoint as a GGUF.

    .venv/bin/pip install -e '.[train]'
    .venv/bin/python scripts/train/train_reader.py TEXT_FOLDER RUN_FOLDER [--size cpu] [--tokens 12e6] [--minutes 110]
    .venv/bin/python scripts/train/train_reader.py TEXT_FOLDER RUN_FOLDER --export reader.gguf

TEXT_FOLDER holds paragraphs.jsonl.gz (pages: `path`, `paragraphs`, each a list of sentences) and
questions/covidqa.json.gz (COVID-QA: documents and questions with answer spans; every third paper is held out for
scripts/eval/reader_model.py). RUN_FOLDER gets the tokenizer, a checkpoint every few minutes and a log of the losses;
the same command resumes from the checkpoint. `--tokens` is the length of the whole curriculum; `--minutes` ends this
call.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when libgomp loads; waiting threads then give up their core

import torch
from reader.corpus import Corpus, read_corpus
from reader.gguf_file import write_gguf
from reader.network import SHAPES, Shape
from reader.tokens import read_tokenizer, train_tokenizer
from reader.training import Training, TrainingConfig, read_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--size", choices=SHAPES, default="cpu")
    parser.add_argument("--tokens", type=float, default=12e6)
    parser.add_argument("--minutes", type=float, default=110)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--export", type=Path, help="write the checkpoint as this GGUF instead of training")
    parser.add_argument("--format", choices=("q8_0", "f32"), default="q8_0")
    options = parser.parse_args()
    options.run.mkdir(parents=True, exist_ok=True)
    vocabulary = options.run / "tokenizer.json"
    if options.export:
        state = read_checkpoint(options.run / "checkpoint.pt")
        shape = Shape(**state["shape"])
        write_gguf(
            state["network"], shape, read_tokenizer(vocabulary), options.export.stem, options.export, options.format
        )
        return
    torch.set_num_threads(options.threads)
    corpus = read_corpus(options.text)
    if not vocabulary.exists():
        train_tokenizer(_texts(corpus), SHAPES[options.size].vocabulary).save(str(vocabulary))
    config = TrainingConfig(options.size, int(options.tokens))
    Training(config, corpus, read_tokenizer(vocabulary), options.run, options.seed).run(options.minutes)


def _texts(corpus: Corpus) -> list[str]:
    return [text for page in corpus.pages for text in (page.path, *page.paragraphs)] + [
        q.question for q in corpus.questions
    ]


if __name__ == "__main__":
    main()
