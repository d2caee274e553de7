"""The parameters of the encoder process, apart from what carries them out."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Runtime = Literal["auto", "onnx", "torch"]


class EncoderParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How questions are embedded and passages reranked."""

    num_threads: Annotated[
        int, Meta(ge=0, le=1024, description="threads that embed questions and rerank; 0: physical cores")
    ] = 0
    runtime: Annotated[
        Runtime,
        Meta(description="onnx, torch, or auto: onnxruntime for each model it can run, else sentence-transformers"),
    ] = "auto"
    min_dimension: Annotated[
        int,
        Meta(ge=0, description="fewest dimensions a client may cut embeddings to, if the model allows; 0: it does not"),
    ] = 0
