"""The parameters of the encoder process, apart from what carries them out."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Runtime = Literal["auto", "onnx", "torch"]


class EncoderParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How questions are embedded and passages reranked."""

    num_threads: Annotated[
        int, Meta(ge=0, le=1024, description="threads that embed questions and rerank; 0: number of physical cores")
    ] = 0
    runtime: Annotated[
        Runtime,
        Meta(description="onnx, torch or auto (onnxruntime if the model can be converted, else sentence-transformers)"),
    ] = "auto"
    min_dimension: Annotated[
        int,
        Meta(
            ge=0,
            description="fewest dimensions that a client may request, if the model allows it; 0: only its own number",
        ),
    ] = 0
