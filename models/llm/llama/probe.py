"""Read what a GGUF is in a process of its own: `python -m models.llm.llama.probe FILE`.

llama.cpp parses the file, which may come from anybody. Should llama.cpp crash on it or never return, only that process
is affected.
"""

import hashlib
import resource
import subprocess
import sys
from pathlib import Path

import msgspec

from models.errors import ModelError, ModelFileError
from models.llm.gguf.files import model_parts

_TIMEOUT_S = 60
_MEMORY_BYTES = 8 << 30  # of address space beside the file; a vocabulary takes far less


class ModelInfo(msgspec.Struct, frozen=True):
    """Sizes in bytes; `memory` as estimated at default settings. `template`: SHA-256 of the chat template."""

    name: str
    architecture: str
    parameters: int
    quantization: str
    context: int  # tokens, as trained
    vocabulary: int
    file_size: int
    memory: int
    template: str | None
    licence: str | None


def probe(path: Path) -> ModelInfo:
    """Return what the GGUF says of itself. Raises `ModelFileError` when llama.cpp cannot read it."""
    command = [sys.executable, "-P", "-m", "models.llm.llama.probe", str(path)]
    try:
        process = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ModelFileError(path, f"llama.cpp did not finish reading it within {_TIMEOUT_S} s") from None
    if process.returncode == 0:
        return msgspec.json.decode(process.stdout, type=ModelInfo)
    reason = process.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise ModelFileError(path, reason if process.returncode == 1 and reason else "llama.cpp cannot read it")


def _main() -> int:
    """Write the `ModelInfo` of the file as JSON to standard output, or the reason to standard error."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path = Path(sys.argv[1])
    limit_bytes = _MEMORY_BYTES + 2 * sum(part.stat().st_size for part in model_parts(path))  # llama.cpp maps the files
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    try:
        info = _read_info(path)
    except ModelFileError as error:
        sys.stderr.write(f"{error.reason}\n")
        return 1
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(info))
    return 0


def _read_info(path: Path) -> ModelInfo:
    from models.llm.gguf.file_type import quantization_name
    from models.llm.llama.vocabulary import Vocabulary  # loads llama.cpp: in this process only, under its limits
    from models.llm.params import EngineParams

    with Vocabulary(path) as vocabulary:
        info, estimate, template = vocabulary.info, vocabulary.estimate(EngineParams()), vocabulary.chat_template
        return ModelInfo(
            name=vocabulary.name,
            architecture=vocabulary.metadata("general.architecture") or "unknown",
            parameters=info.n_params,
            quantization=quantization_name(vocabulary.metadata("general.file_type")),
            context=info.n_ctx_train,
            vocabulary=info.n_vocab,
            file_size=estimate.weights,
            memory=estimate.total,
            template=hashlib.sha256(template.encode()).hexdigest() if template else None,
            licence=vocabulary.metadata("general.license"),
        )


if __name__ == "__main__":
    raise SystemExit(_main())
