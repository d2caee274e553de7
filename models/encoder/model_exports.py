"""Find a model's conversion, or have it made. The server decides here, once, which runtime its processes load."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from models.catalog import ResolvedModel
from models.client import open_process
from models.encoder.exports import EncoderTask, ExportManifest, read_manifest, source_of
from models.encoder.messages import ConversionResult, Convert, FromExporter, ModelFiles
from models.encoder.params import Runtime
from models.errors import ModelFileError, ProcessFailed
from models.offline import OFFLINE

_log = logging.getLogger(__name__)


class ModelExports:
    """The conversions in a cache folder.

    `runtime` "auto": onnxruntime where the model can be converted, otherwise sentence-transformers; "onnx": an error
    where it cannot be converted. `on_convert` is called with a model's name when its conversion begins.

    A model that once ran on sentence-transformers stays there as long as this object lives, so that two processes never
    embed into two vector spaces.
    """

    def __init__(
        self, cache: Path, runtime: Runtime = "auto", on_convert: Callable[[str], None] = lambda _: None
    ) -> None:
        self._cache = cache
        self._runtime = runtime
        self._on_convert = on_convert
        self._unconverted: dict[str, ModelFiles] = {}  # by source
        self._lock = asyncio.Lock()

    async def files(self, model: ResolvedModel, task: EncoderTask) -> ModelFiles:
        """Return the files to load; converts the model first if need be, which takes some ten seconds.

        Raises `ModelError`.
        """
        async with self._lock:
            source = await asyncio.to_thread(source_of, model.path, task, model.sha256)
            if source in self._unconverted:
                return self._unconverted[source]
            if self._runtime != "torch":
                refusal = await self._convert(model, source, task)
                if refusal is None:
                    return ModelFiles(str(model.path), source, str(self._folder(source)))
                if self._runtime == "onnx":
                    raise ModelFileError(model.path, f"it cannot run on onnxruntime: {refusal} (encoder.runtime)")
                _log.warning("%s runs on sentence-transformers, not onnxruntime: %s", model.name, refusal)
            return self._unconverted.setdefault(source, ModelFiles(str(model.path), source, None))

    def _folder(self, source: str) -> Path:
        return self._cache / "models" / source

    async def _convert(self, model: ResolvedModel, source: str, task: EncoderTask) -> str | None:
        """Make the conversion unless there is one, and return None; or return why there is none.

        Raises `ModelFileError` when the model itself cannot be loaded.
        """
        folder = self._folder(source)
        if (manifest := await self._read(folder, source)) is not None:
            return manifest.refusal
        self._on_convert(model.name)
        convert = Convert(str(model.path), source, str(folder), task)
        try:
            async with open_process(
                "exporter", "models.encoder.exporter", FromExporter, OFFLINE, convert, ConversionResult
            ) as (_, converted):
                if converted.error is not None:
                    raise ModelFileError(model.path, converted.error)
        except ProcessFailed as error:
            return error.reason
        manifest = await self._read(folder, source)
        return "its conversion cannot be kept on disk" if manifest is None else manifest.refusal

    @staticmethod
    async def _read(folder: Path, source: str) -> ExportManifest | None:
        return await asyncio.to_thread(read_manifest, folder, source)
