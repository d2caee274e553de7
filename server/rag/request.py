"""A request to ground a conversation: what is searched, and which model reads the sources."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from index.types import SearchScope
from models.llm.base import ChatModel
from models.llm.chat.messages import ChatMessage
from server.rag.options import RagOptions

_ANSWER_TOKENS = 256  # room for an answer whose length the client leaves open


class SourceLayout(NamedTuple):
    """The form in which a model is given its sources.

    `max_passage_chars` is the most characters of a passage, begun at the sentence that answers best; 0: the whole
    passage. With `question_first` the question stands before its sources as well as behind them.
    """

    max_passage_chars: int = 0
    question_first: bool = False


class GroundingRequest(NamedTuple):
    """A conversation, where to search for it, and the model that its prompt is for.

    `options.collections` and `options.vector_stores` do not count here: `scope` is what they came to. `is_question`
    says that the last message is to be searched for. `tools` and `template_options` are rendered by the model's chat
    template. `max_tokens` limits the answer.
    """

    messages: Sequence[ChatMessage]
    model: ChatModel
    layout: SourceLayout = SourceLayout()
    options: RagOptions = RagOptions()
    scope: SearchScope = SearchScope(None)
    is_question: bool = True
    tools: Sequence[Mapping[str, Any]] = ()
    template_options: Mapping[str, Any] = {}
    max_tokens: int | None = None

    @property
    def question(self) -> str:
        return self.messages[-1].text

    @property
    def max_prompt_tokens(self) -> int:
        """The most tokens of a prompt with sources, so that an answer has room in the context."""
        length = self.model.context_length
        return length - min(self.max_tokens or _ANSWER_TOKENS, length // 2)
