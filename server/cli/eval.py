"""`cloister eval`: how well the running server answers a list of questions whose answers are known."""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from server.cli.connection import add_connection, check_reply, open_client
from server.cli.errors import StartError
from server.cli.terminal import strip_controls

_NONE = "none"


class EvalQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the list. `file`: where the answer is, as `path` or `collection/path`; `answer`: words it must hold.
    With neither, the documents do not answer it, and neither should the server."""

    question: str
    file: str | None = None
    answer: str | None = None

    @property
    def is_answerable(self) -> bool:
        return self.file is not None or self.answer is not None


class EvalOutcome(msgspec.Struct, frozen=True):
    """`rank`: of the first passage from the right file, 1 is best; None where it is not found, or none is named."""

    question: str
    rank: int | None
    is_cited: bool | None
    holds: bool | None
    refuses: bool
    said: str


class EvalFigures(msgspec.Struct, frozen=True):
    """Shares of 1; None where no question asks for it. `mrr`: mean reciprocal rank (Voorhees, TREC-8, 1999)."""

    questions: int
    found: float | None
    mrr: float | None
    cited: float | None
    held: float | None
    refused: float | None
    refused_falsely: float | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", type=Path, help='a line of JSON each: {"question": …, "file": …, "answer": …}'
    )
    parser.add_argument("--model", metavar="ID", default="cloister", help="who is asked (default: cloister)")
    parser.add_argument("--top", metavar="N", type=int, default=10, help="passages looked through (default: 10)")
    parser.add_argument("--search-only", action="store_true", help="no answers, only whether the file is found")
    parser.add_argument("--json", action="store_true", help="every outcome and the figures, as JSON")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    known = _read(options.file)
    with open_client(options) as client:
        outcomes = []
        for each in known:
            outcomes.append(_outcome(client, each, options))
            if not options.json:
                print(strip_controls(_line(each, outcomes[-1])), flush=True)
    figures = _figures(known, outcomes)
    if options.json:
        print(msgspec.json.encode({"figures": figures, "outcomes": outcomes}).decode())
    else:
        print(_format_figures(figures, options.top))
    return 0


def _read(path: Path) -> list[EvalQuestion]:
    """Return the questions of a file. Raises `StartError` with the number of the line at fault."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"the questions in {path} cannot be read: {error}") from None
    known = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                known.append(msgspec.json.decode(line, type=EvalQuestion))
            except msgspec.MsgspecError as error:
                raise StartError(f"{path}, line {number}: {error}") from None
    if not known:
        raise StartError(f'{path} has no question; a line is like {{"question": "…", "file": "leave.md"}}')
    return known


def _outcome(client: httpx2.Client, known: EvalQuestion, options: argparse.Namespace) -> EvalOutcome:
    rank = None
    if known.file is not None:
        body = {"query": known.question, "top_k": options.top}
        found = msgspec.json.decode(check_reply(client.post("/v1/search", json=body)).content)["data"]
        rank = next((i for i, each in enumerate(found, 1) if known.file in _names(each)), None)
    if options.search_only:
        return EvalOutcome(known.question, rank, None, None, False, "")
    body = {"model": options.model, "messages": [{"role": "user", "content": known.question}], "temperature": 0}
    message = msgspec.json.decode(check_reply(client.post("/v1/chat/completions", json=body)).content)["choices"][0][
        "message"
    ]
    cited = [_names(each["url_citation"]) for each in message.get("annotations") or ()]
    said = message["content"] or ""
    return EvalOutcome(
        known.question,
        rank,
        None if known.file is None else any(known.file in names for names in cited),
        None if known.answer is None else _plain(known.answer) in _plain(said),
        not cited,
        said,
    )


def _names(found: dict[str, str]) -> tuple[str, str]:
    """Return the names by which the list of questions may call a file."""
    return found["path"], f"{found['collection']}/{found['path']}"


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _line(known: EvalQuestion, outcome: EvalOutcome) -> str:
    wrong = []
    if known.file is not None and outcome.rank is None:
        wrong.append("not found")
    if outcome.is_cited is False:
        wrong.append("not cited")
    if outcome.holds is False:
        wrong.append("without the words")
    if known.is_answerable == outcome.refuses and outcome.said:
        wrong.append("answered all the same" if not known.is_answerable else "refused")
    return f"{'; '.join(wrong) or 'right':40} {known.question}"


def _figures(known: list[EvalQuestion], outcomes: list[EvalOutcome]) -> EvalFigures:
    named = [o for k, o in zip(known, outcomes, strict=True) if k.file is not None]
    asked = [(k, o) for k, o in zip(known, outcomes, strict=True) if o.said]
    return EvalFigures(
        len(outcomes),
        _share(o.rank is not None for o in named),
        statistics.mean(1 / o.rank if o.rank else 0.0 for o in named) if named else None,
        _share(o.is_cited for o in outcomes if o.is_cited is not None),
        _share(o.holds for o in outcomes if o.holds is not None),
        _share(o.refuses for k, o in asked if not k.is_answerable),
        _share(o.refuses for k, o in asked if k.is_answerable),
    )


def _share(values: Iterator[Any]) -> float | None:
    counted = [bool(value) for value in values]
    return sum(counted) / len(counted) if counted else None


def _format_figures(figures: EvalFigures, top: int) -> str:
    def percent(value: float | None) -> str:
        return _NONE if value is None else f"{value:.0%}"

    return (
        f"\n{figures.questions} questions\n"
        f"found among the first {top}: {percent(figures.found)}"
        f" (mean reciprocal rank {_NONE if figures.mrr is None else f'{figures.mrr:.2f}'})\n"
        f"right file cited: {percent(figures.cited)}\n"
        f"answer holds the words: {percent(figures.held)}\n"
        f"refused where there is no answer: {percent(figures.refused)}, where there is one:"
        f" {percent(figures.refused_falsely)}"
    )
