"""Measurements of an engine, taken on the server's side of the connection: as a client would see them."""

from typing import Protocol


class Meter(Protocol):
    """Receives measurements. Times are seconds."""

    def observe_first_token(self, wait_s: float, num_prompt: int, num_cached: int) -> None:
        """An answer's first token came `wait_s` after its request. `num_cached`: of the prompt's tokens, in memory."""

    def observe_interval(self, wait_s: float) -> None:
        """The next tokens of an answer came `wait_s` after those before them."""

    def observe_tokens(self, num_tokens: int) -> None:
        """Tokens were generated."""


class NoMeter:
    """Drops every measurement."""

    def observe_first_token(self, wait_s: float, num_prompt: int, num_cached: int) -> None: ...
    def observe_interval(self, wait_s: float) -> None: ...
    def observe_tokens(self, num_tokens: int) -> None: ...
