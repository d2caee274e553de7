"""Writers of output items: each turns what is written to it into stream events, and into the item.

A response in the making and a stored one that is replayed go through the same writers, so their events agree.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from server.api.responses.events import (
    ContentPartAdded,
    ContentPartDone,
    FileSearchCompleted,
    FileSearchInProgress,
    FileSearchSearching,
    FunctionArgumentsDelta,
    FunctionArgumentsDone,
    OutputItemAdded,
    OutputItemDone,
    OutputTextAnnotationAdded,
    OutputTextDelta,
    OutputTextDone,
    ResponseStreamEvent,
    SummaryPartAdded,
    SummaryPartDone,
    SummaryTextDelta,
    SummaryTextDone,
)
from server.api.responses.items import (
    FileSearchCall,
    FileSearchResult,
    FunctionCallItem,
    ItemStatus,
    OutputItem,
    OutputMessage,
    OutputText,
    ReasoningItem,
    ResponseAnnotation,
    SummaryText,
)
from server.api.shared.logprobs import TokenLogprob
from server.storage.file_records import new_id

Events = Iterator[ResponseStreamEvent]


class ItemWriter(Protocol):
    """Writes one output item. `open` comes first, `close` last; `index` is the item's position in the output."""

    id: str
    index: int

    @property
    def item(self) -> OutputItem:
        """The item as far as it is written."""

    def open(self) -> Events: ...

    def close(self, status: ItemStatus = "completed") -> Events: ...


class FileSearchWriter:
    """Writes a file search, whose queries and results are known from the start."""

    def __init__(self, id: str, index: int, queries: Sequence[str], results: Sequence[FileSearchResult] | None) -> None:
        self.id = id
        self.index = index
        results = None if results is None else list(results)
        self.item = FileSearchCall(id=id, status="completed", queries=list(queries), results=results)

    def open(self) -> Events:
        item = FileSearchCall(id=self.id, status="in_progress", queries=[])
        yield OutputItemAdded(output_index=self.index, item=item)
        yield FileSearchInProgress(item_id=self.id, output_index=self.index)
        yield FileSearchSearching(item_id=self.id, output_index=self.index)
        yield FileSearchCompleted(item_id=self.id, output_index=self.index)

    def close(self, status: ItemStatus = "completed") -> Events:
        yield OutputItemDone(output_index=self.index, item=self.item)


class ReasoningWriter:
    """Writes what the model reasoned, as an item with one summary."""

    def __init__(self, id: str, index: int) -> None:
        self.id = id
        self.index = index
        self._status: ItemStatus = "in_progress"
        self._pieces: list[str] = []

    @property
    def item(self) -> ReasoningItem:
        return ReasoningItem(id=self.id, status=self._status, summary=[SummaryText("".join(self._pieces))])

    def open(self) -> Events:
        item = ReasoningItem(id=self.id, status="in_progress", summary=[])
        yield OutputItemAdded(output_index=self.index, item=item)
        yield SummaryPartAdded(item_id=self.id, output_index=self.index, part=SummaryText(""))

    def write(self, text: str) -> Events:
        self._pieces.append(text)
        yield SummaryTextDelta(item_id=self.id, output_index=self.index, delta=text)

    def close(self, status: ItemStatus = "completed") -> Events:
        self._status = status
        item = self.item
        (part,) = item.summary
        yield SummaryTextDone(item_id=self.id, output_index=self.index, text=part.text)
        yield SummaryPartDone(item_id=self.id, output_index=self.index, part=part)
        yield OutputItemDone(output_index=self.index, item=item)


class MessageWriter:
    """Writes a message with one text."""

    def __init__(self, id: str, index: int) -> None:
        self.id = id
        self.index = index
        self._status: ItemStatus = "in_progress"
        self._pieces: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._annotations: list[ResponseAnnotation] = []

    @property
    def item(self) -> OutputMessage:
        text = OutputText(text="".join(self._pieces), annotations=self._annotations, logprobs=list(self._logprobs))
        return OutputMessage(id=self.id, status=self._status, content=[text])

    def open(self) -> Events:
        item = OutputMessage(id=self.id, status="in_progress", content=[])
        yield OutputItemAdded(output_index=self.index, item=item)
        yield ContentPartAdded(item_id=self.id, output_index=self.index, part=OutputText(text=""))

    def write(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> Events:
        self._pieces.append(text)
        self._logprobs.extend(logprobs)
        yield OutputTextDelta(item_id=self.id, output_index=self.index, delta=text, logprobs=list(logprobs))

    def annotate(self, annotations: Sequence[ResponseAnnotation]) -> Events:
        """Set the annotations of the text, which is complete."""
        self._annotations = list(annotations)
        for number, annotation in enumerate(annotations):
            yield OutputTextAnnotationAdded(
                item_id=self.id, output_index=self.index, annotation_index=number, annotation=annotation
            )

    def close(self, status: ItemStatus = "completed") -> Events:
        self._status = status
        item = self.item
        (part,) = item.content
        yield OutputTextDone(item_id=self.id, output_index=self.index, text=part.text, logprobs=part.logprobs)
        yield ContentPartDone(item_id=self.id, output_index=self.index, part=part)
        yield OutputItemDone(output_index=self.index, item=item)


class FunctionCallWriter:
    """Writes a call of a client's function; `call_id` is the id that the client's result refers to."""

    def __init__(self, id: str, index: int, call_id: str, name: str) -> None:
        self.id = id
        self.index = index
        self._call_id = call_id
        self._name = name
        self._status: ItemStatus = "in_progress"
        self._pieces: list[str] = []

    @property
    def item(self) -> FunctionCallItem:
        return FunctionCallItem(
            id=self.id,
            call_id=self._call_id,
            name=self._name,
            arguments="".join(self._pieces),
            status=self._status,
        )

    def open(self) -> Events:
        yield OutputItemAdded(output_index=self.index, item=self.item)

    def write(self, text: str) -> Events:
        self._pieces.append(text)
        yield FunctionArgumentsDelta(item_id=self.id, output_index=self.index, delta=text)

    def close(self, status: ItemStatus = "completed") -> Events:
        self._status = status
        item = self.item
        yield FunctionArgumentsDone(item_id=self.id, output_index=self.index, arguments=item.arguments, name=item.name)
        yield OutputItemDone(output_index=self.index, item=item)


def new_item_id(prefix: str) -> str:
    """Return a new id such as `msg_...`."""
    return new_id(prefix).replace("-", "_")


def write_item(item: OutputItem, index: int) -> Events:
    """Return the events that a stored item was written with, each text in one piece."""
    match item:
        case FileSearchCall():
            search = FileSearchWriter(item.id, index, item.queries, item.results)
            yield from search.open()
            yield from search.close()
        case ReasoningItem():
            reasoning = ReasoningWriter(item.id, index)
            yield from reasoning.open()
            yield from reasoning.write("".join(part.text for part in item.summary))
            yield from reasoning.close(item.status)
        case OutputMessage():
            message = MessageWriter(item.id, index)
            yield from message.open()
            for part in item.content:
                if part.text:
                    yield from message.write(part.text, part.logprobs)
                yield from message.annotate(part.annotations)
            yield from message.close(item.status)
        case FunctionCallItem():
            call = FunctionCallWriter(item.id, index, item.call_id, item.name)
            yield from call.open()
            yield from call.write(item.arguments)
            yield from call.close(item.status)
