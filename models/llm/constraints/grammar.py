"""Constrained decoding by llguidance: answers that are JSON of a schema, match an expression, or are tool calls.

`json_schema.py` says which schemas are supported. A constraint that cannot be enforced raises `GrammarError` and is
never ignored.
"""

import numpy as np
from llguidance import LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from models.errors import GrammarError
from models.llm.constraints.forms import ConstraintForm, JsonObject, PrefixedForm, ToolCalls
from models.llm.constraints.grammar_source import GrammarSource
from models.llm.constraints.grammar_tokenizer import GrammarTokenizer
from models.llm.constraints.limits import PARSER_LIMITS
from models.llm.constraints.trigger import Trigger


class Grammar:
    """The tokens that one sequence may have next. It belongs to one sequence and one thread.

    `after` and `forced` depend on `generated` alone, not on earlier calls; a call whose tokens continue those of the
    last one costs only the new tokens.
    """

    def __init__(self, tokenizer: GrammarTokenizer, constraint: ConstraintForm) -> None:
        """Compile the constraint. Raises `GrammarError` if it is unsupported, invalid, too large or unsatisfiable."""
        source = GrammarSource(constraint, tokenizer.control)
        self._matcher = LLMatcher(tokenizer.llguidance, source.text, log_level=0, limits=PARSER_LIMITS)
        self._tokenizer = tokenizer
        self._usable = tokenizer.usable(source.control_tokens)
        self._mask = allocate_token_bitmask(1, tokenizer.size)
        self._consumed: list[int] = []
        self._unfit: list[int] | None = None  # tokens that have the trigger but cannot begin a call
        self._trigger: Trigger | None = None
        if self._matcher.is_error():
            raise source.explain(self._matcher.get_error())
        self.after([])
        prefixed = constraint if isinstance(constraint, PrefixedForm) else PrefixedForm(JsonObject())
        if isinstance(prefixed.answer, ToolCalls) and prefixed.answer.trigger:
            self._trigger = Trigger(
                tokenizer.pieces, prefixed.answer.trigger, prefixed.reasoning, prefixed.is_reasoning
            )

    def after(self, generated: list[int]) -> NDArray[np.intp] | None:
        """Return the tokens that may follow, never none of them; None: any. After a complete answer, the end tokens.

        Raises `GrammarError` if going on exceeds the limits, or if `generated` was not allowed.
        """
        if generated and generated[-1] in self._tokenizer.end_tokens:
            return self._tokenizer.end_tokens
        if not self._has_begun(generated):
            return None
        if self._matcher.is_stopped():
            return self._tokenizer.end_tokens
        fill_next_token_bitmask(self._matcher, self._mask)
        self._check()
        bits = np.unpackbits(self._mask.view(np.uint8)[0], count=self._tokenizer.size, bitorder="little")
        allowed = (bits.view(np.bool_) & self._usable).nonzero()[0]
        if not allowed.size:
            raise GrammarError("nothing can follow")
        return allowed

    def forced_tokens(self, generated: list[int], limit: int) -> list[int] | None:
        """Return the next tokens, at most `limit`, as far as there is no alternative; None: any may follow.

        Raises what `after` does.
        """
        if limit <= 0 or (generated and generated[-1] in self._tokenizer.end_tokens):
            return []
        if not self._has_begun(generated):
            return None
        if self._matcher.is_stopped():
            return []
        tokens = self._matcher.compute_ff_tokens()
        self._check()
        return tokens[:limit]

    def _has_begun(self, generated: list[int]) -> bool:
        """Return whether constraining has begun, and bring the matcher to the state after these tokens if so."""
        if self._trigger is None:
            self._follow(generated)
            return True
        span = self._trigger.span(generated)
        if span is None or generated[: span[1]] == self._unfit:
            return False
        opening = generated[slice(*span)]
        if self._consumed[: len(opening)] != opening:
            try:
                self._follow(opening)
            except GrammarError:  # the token that completes the trigger has more text, which fits no call
                self._unfit = generated[: span[1]]
                return False
        self._follow(generated[span[0] :])
        return True

    def _follow(self, generated: list[int]) -> None:
        """Bring the matcher to the state after these tokens."""
        consumed = self._consumed
        if generated[: len(consumed)] != consumed:
            num_kept = next(
                (i for i, (old, new) in enumerate(zip(consumed, generated, strict=False)) if old != new),
                min(len(consumed), len(generated)),
            )
            self._matcher.rollback(len(consumed) - num_kept)
            del consumed[num_kept:]
        new = generated[len(consumed) :]
        num_new = self._matcher.try_consume_tokens(new) if new else 0
        consumed += new[:num_new]
        self._check()
        if num_new < len(new):
            raise GrammarError("the answer so far does not satisfy the constraint")

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().partition("\n")[0]
            raise GrammarError(reason[:200] if " " in reason else "nothing can follow")
