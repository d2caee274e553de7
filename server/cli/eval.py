"""`cloister eval`: measure how many questions with known answers the running server answers correctly."""

import argparse
from pathlib import Path

import httpx2
import msgspec

from server.cli.connection import add_connection, check_reply, open_client
from server.cli.errors import StartError
from server.cli.evaluation import EvalFigures, EvalOutcome, EvalQuestion, figures_of
from server.cli.terminal import strip_controls

_NONE = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help='questions, a JSON object a line: {"question": …, "file": …, "answer": …}',
    )
    parser.add_argument("--model", metavar="ID", default="cloister", help="model that answers (default: cloister)")
    parser.add_argument("--top", metavar="N", type=int, default=10, help="passages of each search (default: 10)")
    parser.add_argument("--search-only", action="store_true", help="test the search only, without answers")
    parser.add_argument("--json", action="store_true", help="print all outcomes and figures as JSON")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    questions = _read_questions(options.file)
    outcomes = []
    with open_client(options) as client:
        for question in questions:
            outcomes.append(_evaluate(client, question, options))
            if not options.json:
                print(strip_controls(_format_outcome(question, outcomes[-1])), flush=True)
    figures = figures_of(questions, outcomes)
    if options.json:
        print(msgspec.json.encode({"figures": figures, "outcomes": outcomes}).decode())
    else:
        print(_format_figures(figures, options.top))
    return 0


def _read_questions(path: Path) -> list[EvalQuestion]:
    """Return the questions of a file. Raises `StartError` with the number of the line at fault."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"the questions in {path} cannot be read: {error}") from None
    questions = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                questions.append(msgspec.json.decode(line, type=EvalQuestion))
            except msgspec.MsgspecError as error:
                raise StartError(f"{path}, line {number}: {error}") from None
    if not questions:
        raise StartError(f'{path} has no question; a line is like {{"question": "…", "file": "leave.md"}}')
    return questions


def _evaluate(client: httpx2.Client, question: EvalQuestion, options: argparse.Namespace) -> EvalOutcome:
    rank = None
    if question.file is not None:
        body = {"query": question.question, "top_k": options.top}
        passages = msgspec.json.decode(check_reply(client.post("/v1/search", json=body)).content)["data"]
        rank = next((i for i, passage in enumerate(passages, 1) if question.file in _file_names(passage)), None)
    if options.search_only:
        return EvalOutcome(question.question, rank, is_cited=None, holds=None, refuses=False, said="")
    body = {"model": options.model, "messages": [{"role": "user", "content": question.question}], "temperature": 0}
    reply = check_reply(client.post("/v1/chat/completions", json=body))
    message = msgspec.json.decode(reply.content)["choices"][0]["message"]
    citations = [_file_names(each["url_citation"]) for each in message.get("annotations") or ()]
    answer = message["content"] or ""
    return EvalOutcome(
        question=question.question,
        rank=rank,
        is_cited=None if question.file is None else any(question.file in names for names in citations),
        holds=None if question.answer is None else _normalize(question.answer) in _normalize(answer),
        refuses=not citations,
        said=answer,
    )


def _file_names(passage: dict[str, str]) -> tuple[str, str]:
    """Return the names by which the list of questions may refer to the file of a passage or citation."""
    return passage["path"], f"{passage['collection']}/{passage['path']}"


def _normalize(text: str) -> str:
    return " ".join(text.casefold().split())


def _format_outcome(question: EvalQuestion, outcome: EvalOutcome) -> str:
    errors = []
    if question.file is not None and outcome.rank is None:
        errors.append("not found")
    if outcome.is_cited is False:
        errors.append("not cited")
    if outcome.holds is False:
        errors.append("without the expected words")
    if question.is_answerable == outcome.refuses and outcome.said:
        errors.append("wrongly refused" if question.is_answerable else "wrongly answered")
    return f"{'; '.join(errors) or 'right':40} {question.question}"


def _format_figures(figures: EvalFigures, top: int) -> str:
    def percent(value: float | None) -> str:
        return _NONE if value is None else f"{value:.0%}"

    mrr = _NONE if figures.mrr is None else f"{figures.mrr:.2f}"
    return (
        f"\n{figures.questions} questions\n"
        f"right file among the first {top} passages: {percent(figures.found)} (mean reciprocal rank {mrr})\n"
        f"right file cited: {percent(figures.cited)}\n"
        f"answer has the expected words: {percent(figures.held)}\n"
        f"refused without an answer in the documents: {percent(figures.refused)}, with one:"
        f" {percent(figures.refused_falsely)}"
    )
