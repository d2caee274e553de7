"""Whether a question can be answered, with the state of every process by its name."""

from typing import Literal

import msgspec


class Health(msgspec.Struct, frozen=True):
    processes: dict[str, str]
    status: Literal["ok"] = "ok"


class Loading(msgspec.Struct, frozen=True):
    """llama-server's, which its clients wait on."""

    code: int = 503
    message: str = "Loading model"
    type: str = "unavailable_error"


class Unhealthy(msgspec.Struct, frozen=True):
    processes: dict[str, str]
    status: Literal["unavailable"] = "unavailable"
    error: Loading = Loading()


class Life(msgspec.Struct, frozen=True):
    status: Literal["alive"] = "alive"


class Readiness(msgspec.Struct, frozen=True):
    status: Literal["ready", "unready"]
