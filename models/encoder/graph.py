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
from models.threads import give_way, num_physical_cores


class Graph:
    """Texts, or pairs of texts, to one row of numbers each.

    Every text is a run of its own: int8 activations are scaled by the largest of a run, so in a batch a text's vector
    would depend on its neighbours. Texts are shared out over `num_threads` threads (0: physical cores) of one
    operation each, which beats one batch on all of them, and no thread spins. What is run `low_priority` has threads of
    its own that give way. Safe for concurrent use.
    """

    def __init__(self, folder: Path, num_threads: int = 0) -> None:
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
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="graph")
        self._calm_threads = ThreadPoolExecutor(num_threads, thread_name_prefix="calm", initializer=give_way)

    def run(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], *, low_priority: bool = False
    ) -> NDArray[np.float32]:
        """What the graph says of each, one row each; no rows for no texts."""
        encodings = self._tokenizer.encode_batch_fast(texts)
        if low_priority:
            return self._stacked(self._calm_threads.map(self._run, encodings))
        return self._run(encodings[0]) if len(texts) == 1 else self._stacked(self._threads.map(self._run, encodings))

    def count_tokens(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[int]:
        """Of each, as far as the model reads it."""
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
    def _stacked(rows: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        found = list(rows)
        return np.concatenate(found) if found else np.empty((0, 0), np.float32)


def token_counter(folder: Path, *, with_marks: bool = False) -> Callable[[str], int]:
    """Counts a text's tokens, without truncation; `with_marks`: and the model's own beginning and end."""
    tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode_batch_fast([text], add_special_tokens=with_marks)[0])
