"""Log probabilities of tokens on the wire, in the shape that OpenAI's and Ollama's APIs share."""

import msgspec

from models.llm.chat.logprobs import Candidate, ScoredToken


class TopLogprob(msgspec.Struct, frozen=True):
    """A token that could have come here. `bytes` are of its text, which need not be whole characters."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, frozen=True):
    """The token that came, with the likeliest ones in its place."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


def token_logprob(token: ScoredToken) -> TokenLogprob:
    chosen = token.chosen
    top = [_top_logprob(candidate) for candidate in token.top]
    return TokenLogprob(token=chosen.text, logprob=chosen.logprob, bytes=list(chosen.piece), top_logprobs=top)


def _top_logprob(candidate: Candidate) -> TopLogprob:
    return TopLogprob(token=candidate.text, logprob=candidate.logprob, bytes=list(candidate.piece))
