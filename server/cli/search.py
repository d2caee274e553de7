"""`cloister search`: find passages in the documents, without generating an answer."""

import argparse

import msgspec

from server.cli.connection import add_connection, check_reply, open_client
from server.cli.terminal import strip_controls


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", metavar="QUERY", help="question or words")
    parser.add_argument(
        "--collection", metavar="NAME", action="append", help="collection to search in (repeatable; default: all)"
    )
    parser.add_argument("--top", metavar="N", type=int, default=5, help="most passages to show (default: 5)")
    parser.add_argument("--json", action="store_true", help="print the server's reply as JSON")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    body = {"query": options.query, "top_k": options.top, "collections": options.collection}
    with open_client(options) as client:
        reply = check_reply(client.post("/v1/search", json=body))
        if options.json:
            print(reply.text)
            return 0
        passages = msgspec.json.decode(reply.content)["data"]
        for number, passage in enumerate(passages, 1):
            breadcrumb = " › ".join((f"{passage['collection']}/{passage['path']}", *passage["heading"]))
            location = passage["place"] or f"lines {passage['lines'][0]}–{passage['lines'][1]}"
            print(strip_controls(f"{number}. {breadcrumb}, {location}\n   {passage['url']}"))
            print("\n".join(f"   {strip_controls(line)}" for line in passage["text"].splitlines()), end="\n\n")
        if not passages:
            print("No passage was found.")
    return 0
