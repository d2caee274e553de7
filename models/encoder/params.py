"""Settings of the encoder process."""

from typing import Literal

Runtime = Literal["auto", "onnx", "torch"]
