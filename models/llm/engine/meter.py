"""Whoever counts what an engine does hears it here, from the server's side: as a client would see it."""

from typing import Protocol


class Meter(Protocol):
    """Times are seconds."""

    def began(self, wait_s: float, num_prompt: int, num_cached: int) -> None:
        """The first token of an answer came, so long after it was asked for; of the prompt, so much was in memory."""
        ...

    def generated(self, num_tokens: int) -> None: ...

    def went_on(self, wait_s: float) -> None:
        """More of an answer came, so long after what came before."""
        ...


class Unmetered:
    """Nobody counts."""

    def began(self, wait_s: float, num_prompt: int, num_cached: int) -> None: ...
    def generated(self, num_tokens: int) -> None: ...
    def went_on(self, wait_s: float) -> None: ...
