"""Health, liveness and readiness on the wire."""

from typing import Literal

import msgspec


class HealthReply(msgspec.Struct, frozen=True):
    """The state of each process by its name."""

    processes: dict[str, str]
    status: Literal["ok"] = "ok"


class LoadingError(msgspec.Struct, frozen=True):
    """llama-server's error object while a model loads, which its clients look for."""

    code: int = 503
    message: str = "Loading model"
    type: str = "unavailable_error"


class UnhealthyReply(msgspec.Struct, frozen=True):
    processes: dict[str, str]
    status: Literal["unavailable"] = "unavailable"
    error: LoadingError = LoadingError()


class LivenessReply(msgspec.Struct, frozen=True):
    status: Literal["alive"] = "alive"


class ReadinessReply(msgspec.Struct, frozen=True):
    status: Literal["ready", "unready"]
