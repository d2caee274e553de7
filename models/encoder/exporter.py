"""The exporter process: converts one model for onnxruntime and ends. `python -m models.encoder.exporter FD`.

It is a process of its own so that no process that serves requests keeps torch in memory.
"""

import os
import threading
from pathlib import Path

from models.encoder.messages import ConversionResult, Convert
from models.errors import ModelFileError
from models.ipc import Inbox, child_main
from models.offline import stay_offline


def _serve(inbox: Inbox[Convert]) -> None:
    request = next(iter(inbox), None)
    if request is None:
        return
    threading.Thread(target=_exit_when_closed, args=(inbox.closed,), daemon=True).start()
    stay_offline()
    from models.encoder.conversion import convert  # loads torch and onnxruntime: only here, after the switches are set

    try:
        convert(Path(request.path), request.source, Path(request.export), request.task)
    except ModelFileError as error:
        inbox.send(ConversionResult(error.reason))
    else:
        inbox.send(ConversionResult())


def _exit_when_closed(closed: threading.Event) -> None:
    """End the process when nobody waits for the conversion any more; the next converter removes what is half done."""
    closed.wait()
    os._exit(1)


if __name__ == "__main__":
    child_main(_serve, Convert)
