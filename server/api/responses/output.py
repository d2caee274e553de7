"""The output of a response in the making: its items, and which of them are open."""

from collections.abc import Generator, Sequence

from server.api.responses.events import ResponseStreamEvent
from server.api.responses.item_writers import (
    Events,
    FileSearchWriter,
    FunctionCallWriter,
    ItemWriter,
    MessageWriter,
    ReasoningWriter,
    new_item_id,
)
from server.api.responses.items import FileSearchResult, ItemStatus, OutputItem, ResponseAnnotation
from server.api.shared.logprobs import TokenLogprob


class OutputTable:
    """The items of a response in the making, in order: at most one reasoning item, message and call of them is open.

    Every method returns the events of what it does, and does it while they are iterated.
    """

    def __init__(self) -> None:
        self._writers: list[ItemWriter] = []
        self._reasoning: ReasoningWriter | None = None
        self._message: MessageWriter | None = None
        self._call: FunctionCallWriter | None = None
        self._calls: dict[int, FunctionCallWriter] = {}  # by the call's number in the model's turn

    @property
    def items(self) -> list[OutputItem]:
        """The items as far as they are written."""
        return [writer.item for writer in self._writers]

    def add_file_search(self, queries: Sequence[str], results: Sequence[FileSearchResult] | None) -> Events:
        """Add a file search that is complete."""
        writer = FileSearchWriter(new_item_id("fs"), len(self._writers), queries, results)
        yield from self._open(writer)
        yield from writer.close()

    def write_reasoning(self, text: str) -> Events:
        """Write to the open reasoning item, or to a new one."""
        if self._reasoning is None:
            self._reasoning = ReasoningWriter(new_item_id("rs"), len(self._writers))
            yield from self._open(self._reasoning)
        yield from self._reasoning.write(text)

    def write_text(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> Events:
        """Write to the open message, or to a new one; close reasoning and call."""
        yield from self._close_call()
        yield from self._close_reasoning()
        message = yield from self._open_message()
        yield from message.write(text, logprobs)

    def annotate(self, annotations: Sequence[ResponseAnnotation]) -> Events:
        """Annotate the text of the open message."""
        assert self._message is not None, "a citation is in a text"
        yield from self._message.annotate(annotations)

    def start_call(self, number: int, call_id: str, name: str, *, closes_message: bool) -> Events:
        """Add the function call with this number in the model's turn; close reasoning and the call before it."""
        yield from self._close_reasoning()
        yield from self._close_call()
        if closes_message:
            yield from self._close_message()
        call = FunctionCallWriter(new_item_id("fc"), len(self._writers), call_id, name)
        yield from self._open(call)
        self._calls[number] = self._call = call

    def write_arguments(self, number: int, text: str) -> Events:
        """Write to the arguments of the call with this number."""
        yield from self._calls[number].write(text)

    def finish(self, message_status: ItemStatus) -> Events:
        """Close all items. A response without text and calls gets an empty message."""
        yield from self._close_reasoning()
        yield from self._close_call()
        if not any(isinstance(writer, MessageWriter | FunctionCallWriter) for writer in self._writers):
            yield from self._open_message()
        yield from self._close_message(message_status)

    def _open(self, writer: ItemWriter) -> Events:
        self._writers.append(writer)
        yield from writer.open()

    def _open_message(self) -> Generator[ResponseStreamEvent, None, MessageWriter]:
        if self._message is None:
            self._message = MessageWriter(new_item_id("msg"), len(self._writers))
            yield from self._open(self._message)
        return self._message

    def _close_reasoning(self) -> Events:
        reasoning, self._reasoning = self._reasoning, None
        if reasoning is not None:
            yield from reasoning.close()

    def _close_message(self, status: ItemStatus = "completed") -> Events:
        message, self._message = self._message, None
        if message is not None:
            yield from message.close(status)

    def _close_call(self) -> Events:
        call, self._call = self._call, None
        if call is not None:
            yield from call.close()
