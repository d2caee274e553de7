"""The switches that keep model libraries off the network."""

import os

OFFLINE: dict[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime's wheels report their users otherwise, on Linux too (its Privacy.md)
    "TOKENIZERS_PARALLELISM": "false",
}


def stay_offline() -> None:
    """Set the switches in this process. Called before a model library is imported: some read them only then."""
    os.environ.update(OFFLINE)
