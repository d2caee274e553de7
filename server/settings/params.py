"""Groups of the server's own settings. Each is passed to the part of the server that it configures."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from index.params import DENSE_WEIGHT

AuditLevel = Literal["off", "changes", "all"]


class RagParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the search for a question, and of how much of the passages the model reads."""

    top_k: Annotated[int, Meta(ge=1, le=64, description="most passages that the model is given for a question")] = 4
    dense_weight: Annotated[
        float, Meta(ge=0, le=1, description="weight of dense search in a passage's score; lexical search has the rest")
    ] = DENSE_WEIGHT
    history_bytes: Annotated[int, Meta(ge=0, description="disk space for the passages of earlier turns, in bytes")] = (
        64_000_000
    )
    max_passage_chars: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="most characters of a passage, from its best sentence on; 0: no limit; unset: the model's"),
    ] = None


class FilesParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of what clients upload."""

    max_bytes: Annotated[int, Meta(gt=0, description="largest file that may be uploaded, in bytes")] = 536_870_912
    total_bytes: Annotated[int, Meta(ge=0, description="most bytes of all uploaded files together")] = 20_000_000_000


class ResponsesParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of what is stored for /v1/responses."""

    max_bytes: Annotated[
        int, Meta(ge=0, description="disk space for stored responses, in bytes; 0: only unfinished ones are stored")
    ] = 256_000_000


class ChatModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A further chat model, under a name of the user's choice."""

    path: Annotated[str, Meta(min_length=1, description="catalog name or path of a GGUF file")]
    lora: Annotated[
        dict[str, Annotated[float, Meta(ge=-100, le=100)]],
        Meta(description="LoRA adapters: path of a GGUF file = scale"),
    ] = {}
    n_ctx: Annotated[
        int, Meta(ge=0, le=4_194_304, description="context length of this model, in tokens; 0: engine.n_ctx")
    ] = 0
