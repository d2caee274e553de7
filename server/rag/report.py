"""The report of one grounding: for the response's `rag` object, and for explanations."""

from collections.abc import Sequence

import msgspec

from server.rag.prompts import Source


class DroppedSource(msgspec.Struct, frozen=True):
    """A passage that was found and is not in the prompt, or not whole. `number` is the number of its source."""

    label: str
    reason: str  # for a person
    number: int | None = None


class RagReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of grounding one turn.

    `sources` are this turn's, new in the prompt; `earlier` are those of the turns before that are still in it.
    `found_nothing`: nothing was relevant to this turn's question, old or new.
    """

    queries: Sequence[str] = ()
    sources: Sequence[Source] = ()
    earlier: Sequence[Source] = ()
    dropped: Sequence[DroppedSource] = ()
    found_nothing: bool = False
    num_tokens: int = 0  # of this turn's sources in the prompt
