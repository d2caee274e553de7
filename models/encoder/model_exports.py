"""Finds a model's conversion, or has it made. The server decides here, once, what all its processes run."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from models.catalog import ResolvedModel
from models.client import open_process
from models.encoder.exports import EncoderTask, ExportManifest, read_manifest, source_of
from models.encoder.messages import Convert, Converted, FromExporter, ModelFiles
from models.encoder.params import Runtime
from models.errors import ModelFileError, ProcessFailed
from models.offline import OFFLINE

_log = logging.getLogger(__name__)


class ModelExports:
    """`runtime` auto: onnxruntime where the model can be converted, else sentence-transformers. onnx: or an error.
    `tell` is called with a model's name when its conversion begins.

    A model that was once given to sentence-transformers stays there, lest two processes embed into two spaces.
    """

    def __init__(self, cache: Path, runtime: Runtime = "auto", tell: Callable[[str], None] = lambda _: None) -> None:
        self._cache = cache
        self._runtime = runtime
        self._tell = tell
        self._unconverted: dict[str, ModelFiles] = {}  # by source
        self._preparing = asyncio.Lock()

    async def files(self, model: ResolvedModel, role: EncoderTask) -> ModelFiles:
        """Converts the model first where that was not done yet, which takes some ten seconds. Raises `ModelError`."""
        async with self._preparing:
            source = await asyncio.to_thread(source_of, model.path, role, model.sha256)
            if source in self._unconverted:
                return self._unconverted[source]
            if self._runtime != "torch":
                reason = await self._convert(model, source, role)
                if reason is None:
                    return ModelFiles(str(model.path), source, str(self._folder(source)))
                if self._runtime == "onnx":
                    raise ModelFileError(model.path, f"it cannot run on onnxruntime: {reason} (encoder.runtime)")
                _log.warning("%s runs on sentence-transformers, not onnxruntime: %s", model.name, reason)
            return self._unconverted.setdefault(source, ModelFiles(str(model.path), source, None))

    def _folder(self, source: str) -> Path:
        return self._cache / "models" / source

    async def _convert(self, model: ResolvedModel, source: str, role: EncoderTask) -> str | None:
        """Why there is no conversion; None when there is. Raises `ModelFileError` when the model itself is broken."""
        folder = self._folder(source)
        if (manifest := await self._read(folder, source)) is not None:
            return manifest.refusal
        self._tell(model.name)
        convert = Convert(str(model.path), source, str(folder), role)
        try:
            async with open_process(
                "exporter", "models.encoder.exporter", FromExporter, OFFLINE, convert, Converted
            ) as (_, converted):
                if converted.error is not None:
                    raise ModelFileError(model.path, converted.error)
        except ProcessFailed as error:
            return error.reason
        manifest = await self._read(folder, source)
        return "its conversion does not stay on disk" if manifest is None else manifest.refusal

    @staticmethod
    async def _read(folder: Path, source: str) -> ExportManifest | None:
        return await asyncio.to_thread(read_manifest, folder, source)
