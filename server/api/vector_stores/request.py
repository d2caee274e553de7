"""From the wire types of /v1/vector_stores to files to attach, chunking and filters. Raises `RequestError`."""

import msgspec

from index.params import Chunking
from server.api.vector_stores.wire import AddFile, BatchRequest, ChunkingRequest, FilterRequest
from server.errors import RequestError
from server.files.filters import AllOf, AnyOf, Compare, Comparison, Filter
from server.storage.file_records import Attribute, FileToAttach

_MIN_CHUNK_TOKENS, _MAX_CHUNK_TOKENS = 100, 4096
_MAX_FILTER_DEPTH = 16


def file_to_attach(request: AddFile, param: str = "") -> FileToAttach:
    """Return the file that a request names. `param`: the path of the request, with a dot, in the whole body."""
    return FileToAttach(
        file_id=request.file_id,
        attributes=dict(request.attributes or {}),
        chunking=parse_chunking(request.chunking_strategy, f"{param}chunking_strategy"),
    )


def files_to_attach(request: BatchRequest) -> list[FileToAttach]:
    if bool(request.files) == bool(request.file_ids):
        raise RequestError("Give either `file_ids` or `files`.", "file_ids", "invalid_value")
    if request.files:
        return [file_to_attach(file, f"files[{index}].") for index, file in enumerate(request.files)]
    shared = file_to_attach(AddFile("", request.attributes, request.chunking_strategy))
    return [msgspec.structs.replace(shared, file_id=id) for id in request.file_ids or ()]


def parse_chunking(request: ChunkingRequest | None, param: str) -> Chunking | None:
    """Return the size and overlap of chunks; None where they are left open."""
    if request is None or request.type == "auto":
        return None
    if request.type != "static" or request.static is None:
        raise RequestError("It is `auto`, or `static` with its sizes.", f"{param}.type", "invalid_value")
    size, overlap = request.static.max_chunk_size_tokens, request.static.chunk_overlap_tokens
    if not _MIN_CHUNK_TOKENS <= size <= _MAX_CHUNK_TOKENS:
        raise RequestError(
            f"A chunk has {_MIN_CHUNK_TOKENS} to {_MAX_CHUNK_TOKENS} tokens.",
            f"{param}.static.max_chunk_size_tokens",
            "invalid_value",
        )
    if not 0 <= overlap <= size // 2:
        where = f"{param}.static.chunk_overlap_tokens"
        raise RequestError("The overlap is 0 to half of the chunk's size.", where, "invalid_value")
    return Chunking(size, overlap)


def parse_filter(request: FilterRequest | None, param: str = "filters", depth: int = 1) -> Filter | None:
    """Return the filter, None for none. `param`: the path of the filter in the whole body."""
    if request is None:
        return None
    if depth > _MAX_FILTER_DEPTH:
        raise RequestError(f"Filters may be nested {_MAX_FILTER_DEPTH} deep.", param, "invalid_value")
    if request.type in ("and", "or"):
        if not request.filters:
            raise RequestError(f"There is nothing to join by {request.type!r}.", f"{param}.filters", "invalid_value")
        parsed = [
            parse_filter(part, f"{param}.filters[{index}]", depth + 1) for index, part in enumerate(request.filters)
        ]
        parts = tuple(part for part in parsed if part is not None)
        return AllOf(parts) if request.type == "and" else AnyOf(parts)
    if request.type not in set(Comparison):
        known = ", ".join([*Comparison, "and", "or"])
        message = f"There is no filter {request.type!r}; there are: {known}."
        raise RequestError(message, f"{param}.type", "invalid_value")
    if request.key is None:
        message = "A comparison needs an attribute's `key`."
        raise RequestError(message, f"{param}.key", "missing_required_parameter")
    return _parse_comparison(Comparison(request.type), request.key, request.value, f"{param}.value")


def _parse_comparison(operator: Comparison, key: str, value: object, param: str) -> Compare:
    if (operator in (Comparison.IN, Comparison.NIN)) != isinstance(value, list):
        expected = "a list" if not isinstance(value, list) else "one value"
        raise RequestError(f"`{operator}` compares with {expected}.", param, "invalid_value")
    values: list[Attribute] = []
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, str | bool | int | float):
            raise RequestError("It compares with texts, numbers, true and false.", param, "invalid_value")
        values.append(each)
    return Compare(operator, key, tuple(values))
