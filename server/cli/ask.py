"""`cloister ask`: send a question to the running server, and print its answer and the sources."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec

from server.cli.connection import add_connection, check_reply, open_client
from server.cli.errors import StartError
from server.cli.terminal import strip_controls

_DONE = "[DONE]"
_RANKINGS = {"dense": "dense search", "words": "lexical search", "fused": "both together"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "question", metavar="QUESTION", nargs="?", help="question; default, or -: read from standard input"
    )
    parser.add_argument(
        "--model",
        metavar="ID",
        default="cloister",
        help="cloister (default), cloister/COLLECTION, or a model's name",
    )
    parser.add_argument("--explain", metavar="FILE", help="explain instead why this file is, or is not, a source")
    parser.add_argument("--json", action="store_true", help="print the server's reply as JSON")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    question = _question(options.question)
    with open_client(options) as client:
        if options.explain:
            _explain(client, question, options)
        elif options.json:
            body = {"model": options.model, "messages": [{"role": "user", "content": question}]}
            print(check_reply(client.post("/v1/chat/completions", json=body)).text)
        else:
            _answer(client, question, options.model)
    return 0


def _question(argument: str | None) -> str:
    try:
        question = sys.stdin.read() if argument in (None, "-") else argument
    except UnicodeDecodeError:
        raise StartError("standard input is not UTF-8 text; pass a question as UTF-8") from None
    if not question or not question.strip():
        raise StartError('there is no question; pass one: cloister ask "How long is parental leave?"')
    return question.strip()


def _answer(client: httpx2.Client, question: str, model: str) -> None:
    """Print the answer as it is generated. Ctrl-C leaves what is printed."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": True}
    sources: dict[int, str] = {}
    try:
        with client.stream("POST", "/v1/chat/completions", json=body) as reply:
            for chunk in _chunks(check_reply(reply)):
                for choice in chunk["choices"]:
                    delta = choice["delta"]
                    sys.stdout.write(strip_controls(delta.get("content") or ""))
                    sys.stdout.flush()
                    sources |= _sources(delta.get("annotations") or ())
    except KeyboardInterrupt:
        print()
        raise
    print()
    if sources:
        print("\nSources:")
        for number, source in sorted(sources.items()):
            print(f"[{number}] {source}")


def _chunks(reply: httpx2.Response) -> Iterator[Any]:
    """Yield the chunks of a stream. Raises `StartError` for an error frame."""
    for line in reply.iter_lines():
        if not line.startswith("data: ") or line.endswith(_DONE):
            continue
        chunk = msgspec.json.decode(line.removeprefix("data: "))
        if "error" in chunk:
            print()
            raise StartError(str(chunk["error"]["message"]))
        yield chunk


def _sources(annotations: Any) -> dict[int, str]:
    citations = [annotation["url_citation"] for annotation in annotations]
    return {citation["number"]: strip_controls(f"{citation['title']}\n    {citation['url']}") for citation in citations}


def _explain(client: httpx2.Client, question: str, options: argparse.Namespace) -> None:
    body = {"query": question, "explain": True, "expect": options.explain, **_collections(options.model)}
    reply = check_reply(client.post("/v1/search", json=body))
    if options.json:
        print(reply.text)
        return
    for file in msgspec.json.decode(reply.content)["explanation"]["expected"]:
        name = "/".join(filter(None, (file["collection"], file["path"])))
        print(strip_controls(f"{name}: {file['outcome'].replace('_', ' ')} – {file['reason']}".rstrip(" –")))
        ranks = [(ranking, file[f"{ranking}_rank"]) for ranking in _RANKINGS if file[f"{ranking}_rank"]]
        if ranks:
            print("  rank by " + ", ".join(f"{_RANKINGS[ranking]}: {rank}" for ranking, rank in ranks))
        for passage in file["instead"]:
            first, last = passage["lines"]
            print(strip_controls(f"  instead: {passage['collection']}/{passage['path']}, lines {first}–{last}"))


def _collections(model: str) -> dict[str, list[str]]:
    """Return the field `collections` of a search that a question to this model makes; {} for all collections."""
    name = model.removeprefix("cloister").partition("@")[0].removeprefix("/")
    return {"collections": [name]} if name and model.startswith("cloister") else {}
