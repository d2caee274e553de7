"""`cloister ask`: a question to the server that runs, and its answer with its sources, as it is being made."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec

from server.cli.common import StartError
from server.cli.connection import add_connection, checked, connected
from server.cli.terminal import shown

_DONE = "[DONE]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", metavar="QUESTION", nargs="?", help="default, or -: standard input")
    parser.add_argument("--model", metavar="ID", default="cloister", help="cloister, cloister/COLLECTION, …")
    parser.add_argument("--explain", metavar="FILE", help="say why this file is, or is not, among the sources instead")
    parser.add_argument("--json", action="store_true", help="the server's whole reply, as JSON")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    question = _question(options.question)
    with connected(options) as client:
        if options.explain:
            _explain(client, question, options)
        elif options.json:
            body = {"model": options.model, "messages": [{"role": "user", "content": question}]}
            print(checked(client.post("/v1/chat/completions", json=body)).text)
        else:
            _answer(client, question, options.model)
    return 0


def _question(told: str | None) -> str:
    try:
        question = sys.stdin.read() if told in (None, "-") else told
    except UnicodeDecodeError:
        raise StartError("there is no question on standard input") from None
    if not question or not question.strip():
        raise StartError('there is no question; cloister ask "How long is parental leave?"')
    return question.strip()


def _answer(client: httpx2.Client, question: str, model: str) -> None:
    """To the screen as it comes; what was said so far stays when it is interrupted."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": True}
    cited: dict[int, str] = {}
    try:
        with client.stream("POST", "/v1/chat/completions", json=body) as reply:
            for chunk in _chunks(checked(reply)):
                for choice in chunk["choices"]:
                    delta = choice["delta"]
                    sys.stdout.write(shown(delta.get("content") or ""))
                    sys.stdout.flush()
                    cited |= _cited(delta.get("annotations") or ())
    except KeyboardInterrupt:
        print()
        raise
    print()
    if cited:
        print("\nSources:")
        for number, source in sorted(cited.items()):
            print(f"[{number}] {source}")


def _chunks(reply: httpx2.Response) -> Iterator[Any]:
    """Raises `StartError` for an error in the middle."""
    for line in reply.iter_lines():
        if not line.startswith("data: ") or line.endswith(_DONE):
            continue
        chunk = msgspec.json.decode(line.removeprefix("data: "))
        if "error" in chunk:
            print()
            raise StartError(str(chunk["error"]["message"]))
        yield chunk


def _cited(annotations: Any) -> dict[int, str]:
    told = [each["url_citation"] for each in annotations]
    return {each["number"]: shown(f"{each['title']}\n    {each['url']}") for each in told}


def _explain(client: httpx2.Client, question: str, options: argparse.Namespace) -> None:
    body = {"query": question, "explain": True, "expect": options.explain, **_collections(options.model)}
    reply = checked(client.post("/v1/search", json=body))
    if options.json:
        print(reply.text)
        return
    for file in msgspec.json.decode(reply.content)["explanation"]["expected"]:
        name = "/".join(filter(None, (file["collection"], file["path"])))
        print(shown(f"{name}: {file['outcome'].replace('_', ' ')} – {file['reason']}".rstrip(" –")))
        ranks = [(kind, file[f"{kind}_rank"]) for kind in ("dense", "words", "fused") if file[f"{kind}_rank"]]
        if ranks:
            print("  place by " + ", ".join(f"{_KINDS[kind]}: {rank}" for kind, rank in ranks))
        for passage in file["instead"]:
            first, last = passage["lines"]
            print(shown(f"  instead: {passage['collection']}/{passage['path']}, lines {first}–{last}"))


_KINDS = {"dense": "meaning", "words": "words", "fused": "both together"}


def _collections(model: str) -> dict[str, list[str]]:
    name = model.removeprefix("cloister").partition("@")[0].removeprefix("/")
    return {"collections": [name]} if name and model.startswith("cloister") else {}
