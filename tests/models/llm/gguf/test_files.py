"""Split models and LoRA adapters, with small random weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.errors import ModelFileError
from models.llm.engine.engine import Engine
from models.llm.engine.messages import Generate, TokenLogprobs
from models.llm.engine.prefill_budget import PrefillBudget
from models.llm.engine.scheduler import Scheduler
from models.llm.gguf.files import model_name, model_parts
from models.llm.llama.runner import LlamaRunner
from models.llm.llama.vocabulary import Vocabulary
from models.llm.params import Adapter, EngineParams, SamplingParams
from tests.models.gguf_files import LlamaShape, write_llama, write_lora, write_parts

PARAMS = EngineParams(n_ctx=128, n_batch=64, num_threads=1)
PROMPT = list(range(10, 40))


def first_logprobs(path: Path, adapters: Sequence[Adapter] = ()) -> list[TokenLogprobs]:
    """Return the log-probabilities of the first token after the prompt."""
    with LlamaRunner(path, PARAMS, adapters) as runner:
        engine = Engine(
            Scheduler(runner.limits, runner.end_tokens), runner, 0, prefill_budget=PrefillBudget(PARAMS.n_batch)
        )
        engine.add(Generate(1, PROMPT, 1, SamplingParams(temperature=0, num_logprobs=20)))
        return [each for _ in iter(lambda: engine.is_idle, True) for delta in engine.step() for each in delta.logprobs]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    return write_llama(folder / "whole.gguf")


@pytest.fixture(scope="module")
def parts(folder: Path) -> list[Path]:
    return write_parts(folder, "split", 3)


def test_a_single_file_is_its_only_part(whole: Path) -> None:
    assert model_parts(whole) == [whole]


@pytest.mark.parametrize("name", ["model-1-of-2.gguf", "model-00001-of-00002.bin", "00001-of-00002.gguf", "a.gguf"])
def test_names_that_resemble_parts_are_single_files(name: str, tmp_path: Path) -> None:
    assert model_parts(tmp_path / name) == [tmp_path / name]


def test_model_name_leaves_out_suffix_and_part_number() -> None:
    assert model_name(Path("/x/Big-Model-Q4_K_M-00002-of-00003.gguf")) == "Big-Model-Q4_K_M"
    assert model_name(Path("/x/Small.Q8_0.gguf")) == "Small.Q8_0"


@pytest.mark.parametrize("number", range(3))
def test_any_part_s_path_loads_all_parts(parts: list[Path], whole: Path, number: int) -> None:
    assert model_parts(parts[number]) == parts
    assert first_logprobs(parts[number]) == first_logprobs(whole)


def test_the_estimate_counts_all_parts(parts: list[Path]) -> None:
    with Vocabulary(parts[1]) as vocabulary:
        assert vocabulary.estimate(PARAMS).weights == sum(part.stat().st_size for part in parts)


@pytest.mark.parametrize("number", range(3))
def test_a_missing_part_raises_an_error_with_its_path(tmp_path: Path, number: int) -> None:
    parts = write_parts(tmp_path, "split", 3)
    parts[number].unlink()
    with pytest.raises(ModelFileError, match="this part of a model of 3 files is missing") as caught:
        Vocabulary(parts[number - 1])
    assert caught.value.path == parts[number]


def test_a_truncated_part_raises_an_error_with_a_path(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "split", 3)
    parts[2].write_bytes(parts[2].read_bytes()[:-5000])
    with pytest.raises(ModelFileError, match="cannot load it") as caught:
        LlamaRunner(parts[0], PARAMS)
    assert caught.value.path in parts


def test_a_part_of_another_model_is_refused(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "split", 3)
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(ModelFileError):
        LlamaRunner(parts[0], PARAMS)


@pytest.fixture(scope="module")
def lora(folder: Path) -> Path:
    return write_lora(folder / "lora.gguf")


def top_logprobs(tokens: list[TokenLogprobs]) -> np.ndarray:
    return np.array([logprob for _, logprob in tokens[0].top])


def test_an_adapter_changes_the_logits_by_its_scale(whole: Path, lora: Path) -> None:
    without = first_logprobs(whole)
    assert first_logprobs(whole, [Adapter(str(lora), 0.0)]) == without
    half, full = (first_logprobs(whole, [Adapter(str(lora), scale)]) for scale in (0.5, 1.0))
    assert not np.allclose(top_logprobs(full), top_logprobs(without), atol=0.01)
    assert not np.allclose(top_logprobs(full), top_logprobs(half), atol=0.01)


def test_scales_of_two_adapters_add_up(whole: Path, lora: Path, folder: Path) -> None:
    copy = folder / "copy.gguf"
    copy.write_bytes(lora.read_bytes())
    both = first_logprobs(whole, [Adapter(str(lora), 0.25), Adapter(str(copy), 0.75)])
    assert np.allclose(top_logprobs(both), top_logprobs(first_logprobs(whole, [Adapter(str(lora), 1.0)])), atol=1e-3)


def test_each_adapter_and_scale_has_an_identity_of_its_own(whole: Path, lora: Path) -> None:
    identities = set()
    for adapters in ([], [Adapter(str(lora), 1.0)], [Adapter(str(lora), 0.5)]):
        with LlamaRunner(whole, PARAMS, adapters) as runner:
            identities.add(runner.identity)
    assert len(identities) == 3


def wrong_adapters(folder: Path) -> dict[str, Path]:
    (folder / "text.gguf").write_text("not an adapter")
    (folder / "cut.gguf").write_bytes(write_lora(folder / "full.gguf").read_bytes()[:700])
    return {
        "of another width": write_lora(folder / "wide.gguf", LlamaShape(width=128)),
        "of more layers": write_lora(folder / "deep.gguf", LlamaShape(layers=4)),
        "of another family": write_lora(folder / "family.gguf", family="qwen2"),
        "a model": write_llama(folder / "model.gguf"),
        "a text": folder / "text.gguf",
        "cut": folder / "cut.gguf",
        "missing": folder / "missing.gguf",
    }


@pytest.mark.parametrize(
    "kind", ["of another width", "of more layers", "of another family", "a model", "a text", "cut", "missing"]
)
def test_a_file_that_is_no_adapter_of_this_model_is_refused(kind: str, whole: Path, tmp_path: Path) -> None:
    path = wrong_adapters(tmp_path)[kind]
    with pytest.raises(ModelFileError) as caught:
        LlamaRunner(whole, PARAMS, [Adapter(str(path))])
    assert caught.value.path == path
