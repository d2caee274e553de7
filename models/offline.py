"""The switches that keep model libraries off the network. Set before any of them is imported."""

OFFLINE: dict[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # or onnxruntime's wheels report their users, on Linux too (its Privacy.md)
    "TOKENIZERS_PARALLELISM": "false",
}
