"""Load GGUF files with llama.cpp; its log becomes one line that a person can use."""

import ctypes
import functools
import os
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as C

from models.errors import ModelFileError
from models.llm.gguf.files import model_parts

_LOG_LEVEL_ERROR = 4  # GGML_LOG_LEVEL_ERROR
_NUM_LINES = 5


class ErrorLog:
    """The last error lines of llama.cpp's log, oldest first, without the function's name in front."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._callback = C.llama_log_callback(self._append)  # llama.cpp holds it: it must live as long as the process
        C.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _append(self, level: int, text: bytes, _: int | None) -> None:
        if level == _LOG_LEVEL_ERROR and (line := text.decode(errors="replace").strip()):
            self._lines = [*self._lines[1 - _NUM_LINES :], line.split(": ", 1)[-1]]

    def clear(self) -> None:
        self._lines.clear()

    def first(self, default: str) -> str:
        """Return the oldest line since `clear`, which names the cause; later ones say only that loading failed."""
        return next(iter(self._lines), default)


@functools.cache
def error_log() -> ErrorLog:
    """Return the process's log, installed at the first call; llama.cpp has one log callback for the whole process."""
    return ErrorLog()


def check_magic(path: Path) -> None:
    """Raise `ModelFileError` unless the file exists and begins like a GGUF."""
    if not path.is_file():
        raise ModelFileError(path, "there is no such file")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelFileError(path, "not a GGUF file (it does not begin with 'GGUF')")


def load_model(path: Path, **params: object) -> Any:
    """Load a GGUF, or all parts of a split one, and return llama.cpp's pointer; the caller frees it.

    `params` are fields of `llama_model_params`. Raises `ModelFileError` when llama.cpp refuses the file.
    """
    first_part = model_parts(path)[0]
    check_magic(first_part)
    log = error_log()
    log.clear()
    C.llama_backend_init()
    model_params = C.llama_model_default_params()
    for name, value in params.items():
        setattr(model_params, name, value)
    model = C.llama_model_load_from_file(os.fsencode(first_part), model_params)
    if not model:
        reason = log.first("it does not say why").rsplit("error loading model: ", 1)[-1]
        raise ModelFileError(first_part, f"llama.cpp cannot load it: {reason}; the file may be cut short or damaged")
    return model
