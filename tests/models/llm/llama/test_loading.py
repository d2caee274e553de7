"""Damaged files are refused with one line, by the vocabulary and by the runner."""

import random
from pathlib import Path

import pytest

from models.catalog import resolve_chat
from models.errors import ModelFileError
from models.llm.llama.runner import LlamaRunner
from models.llm.llama.vocabulary import Vocabulary
from models.llm.params import EngineParams

BUILTIN = resolve_chat("reader-v1").path
PARAMS = EngineParams(n_ctx=128, num_slots=8, n_batch=64, num_threads=1)


@pytest.mark.parametrize("load", [Vocabulary, lambda path: LlamaRunner(path, PARAMS)], ids=["vocabulary", "runner"])
class TestDamagedFiles:
    def test_a_missing_file_is_refused(self, load: type[Vocabulary], tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="no such file"):
            load(tmp_path / "missing.gguf")

    @pytest.mark.parametrize("content", [b"", b"GGU", b"PK\x03\x04" + bytes(100), b"\0" * 4096])
    def test_another_kind_of_file_is_refused(self, load: type[Vocabulary], tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "other.gguf"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="not a GGUF"):
            load(path)

    def test_a_file_truncated_anywhere_is_refused(self, load: type[Vocabulary], tmp_path: Path) -> None:
        whole = BUILTIN.read_bytes()
        path = tmp_path / "cut.gguf"
        rng = random.Random(1)
        sizes = [4, 5, 8, 16, 23, 24, 32, 100, len(whole) // 2, len(whole) - 1]
        sizes += [rng.randrange(4, 200_000) for _ in range(15)]  # the header and the vocabulary end at about 140,000
        sizes += [rng.randrange(200_000, len(whole)) for _ in range(5)]
        for size in sizes:
            path.write_bytes(whole[:size])
            with pytest.raises(ModelFileError, match="cut short") as caught:
                load(path)
            assert "\n" not in str(caught.value)
