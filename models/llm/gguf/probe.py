"""What a GGUF is, read in a process of its own: `python -m models.llm.gguf.probe FILE`.

llama.cpp reads the file, which may be anybody's; should it crash on it or never come back, it is not with us.
"""

import hashlib
import resource
import subprocess
import sys
from pathlib import Path

import msgspec

from models.errors import ModelError, ModelFileError
from models.llm.gguf.files import parts_of

_LIMIT_S = 60
_MEMORY = 8 << 30  # bytes of address space beside the file; a vocabulary takes far less


class ModelInfo(msgspec.Struct, frozen=True):
    """Sizes in bytes; `memory` as estimated at default settings. `template`: SHA-256 of its chat template."""

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
    """Raises `ModelFileError` when it is no model that llama.cpp can read."""
    command = [sys.executable, "-P", "-m", "models.llm.gguf.probe", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ModelFileError(path, f"llama.cpp did not come to an end with it in {_LIMIT_S} s") from None
    if done.returncode == 0:
        return msgspec.json.decode(done.stdout, type=ModelInfo)
    reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise ModelFileError(path, reason if done.returncode == 1 and reason else "llama.cpp cannot read it")


def _main() -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path = Path(sys.argv[1])
    room = _MEMORY + 2 * sum(part.stat().st_size for part in parts_of(path))  # its files are mapped
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    from models.llm.gguf.file_type import name_of
    from models.llm.llama.runner import Vocabulary
    from models.llm.params import EngineParams

    try:
        with Vocabulary(path) as vocabulary:
            facts, estimate = vocabulary.facts, vocabulary.estimate(EngineParams())
            template = vocabulary.chat_template
            card = ModelInfo(
                name=vocabulary.name,
                architecture=vocabulary.metadata("general.architecture") or "unknown",
                parameters=facts.n_params,
                quantization=name_of(vocabulary.metadata("general.file_type")),
                context=facts.n_ctx_train,
                vocabulary=facts.n_vocab,
                file_size=estimate.weights,
                memory=estimate.total,
                template=hashlib.sha256(template.encode()).hexdigest() if template else None,
                licence=vocabulary.metadata("general.license"),
            )
    except ModelFileError as error:
        sys.stderr.write(f"{error.reason}\n")
        return 1
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(card))
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
