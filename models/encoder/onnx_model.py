"""A converted model on onnxruntime. Imports neither torch nor transformers."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from models.encoder.exports import GRAPH, TOKENIZER
from models.errors import ModelFileError
from models.threads import lower_thread_priority, num_physical_cores


class OnnxModel:
    """Turns each text, or pair of texts, into one row of numbers. Safe for concurrent use.

    Every text is a run of its own: int8 activations are scaled by the largest of a run, so in a batch a text's vector
    would depend on its neighbours. Texts are shared out over `num_threads` threads (0: physical cores), with one thread
    inside each run, which is faster than one batch on all cores, and no thread spins. Low-priority runs have threads of
    their own, at a lower scheduling priority.
    """

    def __init__(self, folder: Path, num_threads: int = 0) -> None:
        """Raises `ModelFileError` when onnxruntime cannot load the files."""
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # it would keep the memory of the longest text
        options.log_severity_level = 3
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            self._session = onnxruntime.InferenceSession(
                str(folder / GRAPH), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # whatever the libraries raise for damaged files: one line for the user
            raise ModelFileError(folder, f"onnxruntime cannot load it: {str(error).splitlines()[0]}") from error
        self._inputs = [node.name for node in self._session.get_inputs()]
        num_threads = num_threads or num_physical_cores()
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="onnx")
        self._low_priority_threads = ThreadPoolExecutor(
            num_threads, thread_name_prefix="onnx-low", initializer=lower_thread_priority
        )

    def run(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], *, low_priority: bool = False
    ) -> NDArray[np.float32]:
        """Return the graph's output, one row for each text; shape (0, 0) when there are no texts."""
        encodings = self._tokenizer.encode_batch_fast(texts)
        if low_priority:
            return self._stack(self._low_priority_threads.map(self._run, encodings))
        return self._run(encodings[0]) if len(texts) == 1 else self._stack(self._threads.map(self._run, encodings))

    def count_tokens(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[int]:
        """Return the tokens of each text, after truncation to what the model reads."""
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(texts)]

    def _run(self, encoding: Encoding) -> NDArray[np.float32]:
        features = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        feed = {name: np.array([features[name]], np.int64) for name in self._inputs}
        row: NDArray[np.float32] = self._session.run(None, feed)[0]
        return row

    @staticmethod
    def _stack(rows: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        all_rows = list(rows)
        return np.concatenate(all_rows) if all_rows else np.empty((0, 0), np.float32)


def token_counter(folder: Path, *, with_special_tokens: bool = False) -> Callable[[str], int]:
    """Return a function that counts a text's tokens without truncation.

    `with_special_tokens`: it also counts the model's start and end tokens.
    """
    tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode_batch_fast([text], add_special_tokens=with_special_tokens)[0])
