"""The errors of models and their processes. They carry values; `server/http/problems.py` makes words of them.

ModelError
├── ModelNotFound            no such name in the catalog and no such file
├── ModelNotInstalled        a model of the catalog whose file is not on this disk
├── ModelFileError           a file that is not the model it should be: missing, truncated, altered
├── ModelUnavailable         a configured model that could not be opened at the start
├── TemplateError            the model's chat template cannot render these messages
├── ContextLengthExceeded    the prompt alone is longer than the model's context
├── UnknownToken             a prompt has a token that the model does not have
├── CannotInsert             the model has no fill-in-the-middle tokens
├── QueueFull                the queue of waiting requests is at its limit
├── ModelDoesNotFit          the memory budget for models has no room for it
├── GrammarError             a constraint on the answer cannot be enforced
│   └── UnenforceableTool    the constraint is a tool's parameters
├── ProcessUnavailable       the process that runs the model is starting, restarting or has ended
└── ProcessFailed            that process ended, or failed this request, while it was computing it
"""

from collections.abc import Sequence
from pathlib import Path

from models.memory import format_bytes


class ModelError(Exception):
    """The root of all errors of this package."""


class ModelNotFound(ModelError):
    def __init__(self, name: str) -> None:
        super().__init__(f"no model named {name!r} in the catalog, and no file at that path")
        self.name = name


class ModelNotInstalled(ModelError):
    """A model of the catalog whose file is not in the models folder. `source` is the name of a repository."""

    def __init__(self, name: str, file: str, source: str, folder: Path) -> None:
        super().__init__(
            f"the file of {name} is not here: cloister models pull {name} fetches it; or bring {file} (for example from"
            f" the Hugging Face repository {source}), and import it: cloister models import {file}"
        )
        self.name = name
        self.file = file
        self.source = source
        self.folder = folder


class ModelFileError(ModelError):
    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ModelUnavailable(ModelError):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the model {name} is not available: {reason}")
        self.name = name
        self.reason = reason


class TemplateError(ModelError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"the model's chat template refused these messages: {reason}")
        self.reason = reason


class ContextLengthExceeded(ModelError):
    def __init__(self, num_prompt: int, n_ctx: int) -> None:
        super().__init__(f"prompt of {num_prompt} tokens, context of {n_ctx}")
        self.num_prompt = num_prompt
        self.n_ctx = n_ctx


class UnknownToken(ModelError):
    def __init__(self, token: int, size: int) -> None:
        super().__init__(f"token {token} of a vocabulary of {size}")
        self.token = token
        self.size = size


class CannotInsert(ModelError):
    def __init__(self, name: str) -> None:
        super().__init__(f"{name} has no fill-in-the-middle tokens")
        self.name = name


class QueueFull(ModelError):
    """`retry_after` is in seconds."""

    def __init__(self, num_waiting: int, retry_after: int) -> None:
        super().__init__(f"{num_waiting} requests are waiting already")
        self.num_waiting = num_waiting
        self.retry_after = retry_after


class ProcessUnavailable(ModelError):
    """`retry_after` is in seconds."""

    def __init__(self, name: str, reason: str, retry_after: int) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason
        self.retry_after = retry_after


class ProcessFailed(ModelError):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class ModelDoesNotFit(ModelError):
    """Sizes in bytes. `retry_after`: seconds; None: there will never be room for it.

    `loaded`: the models that take the memory, each with its size, as text.
    """

    def __init__(
        self, name: str, size: int, budget: int, loaded: Sequence[str] = (), retry_after: int | None = None
    ) -> None:
        state = "these are in use" if retry_after else "this one always stays in memory"
        in_memory = f", and {state}: {', '.join(loaded)}" if loaded else ""
        super().__init__(
            f"{name} needs about {format_bytes(size)} of memory; {format_bytes(budget)} are for chat models{in_memory}."
            " Lower engine.n_ctx, take a smaller model, or raise memory_budget_bytes"
        )
        self.name = name
        self.size = size
        self.budget = budget
        self.retry_after = retry_after


class GrammarError(ModelError):
    """A constraint cannot be enforced. `path`: the position in the schema, `$.properties.age`, or "" if unknown."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.reason = reason
        self.path = path


class UnenforceableTool(GrammarError):
    """`index`: the tool's position in the request."""

    def __init__(self, index: int, error: GrammarError) -> None:
        super().__init__(error.reason, error.path)
        self.index = index
