"""Reports paths that may have changed in the watched folders, from watchfiles on a thread of its own.

These are only hints: the operating system drops events silently when its queue overflows. Scans find what was lost.
"""

import logging
import os
import queue
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import watchfiles

_log = logging.getLogger(__name__)
_STEP_MS = 50
_DEBOUNCE_MS = 200
_READY_MS = 500  # how soon after the start it is known that the watches are set
# File systems on which other machines may change files without an event here.
_REMOTE = (
    "nfs nfs4 cifs smb smb2 smb3 smbfs ncpfs afs 9p ceph glusterfs lustre beegfs drvfs vboxsf virtiofs prl_fs"
    " fuse.sshfs fuse.rclone fuse.s3fs fuse.glusterfs fuse.vmhgfs-fuse fuse.grpcfuse fakeowner"
)


class Watcher:
    """Watches roots, which must exist. A context manager: leaving it ends the thread."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = list(roots)
        self._hints: queue.SimpleQueue[set[Path]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self.has_failed = False  # the system refused, because its watches have run out, say

    def __enter__(self) -> Self:
        if self._roots:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Return whether it still watches. Once it has failed, because a root vanished, say, open another and scan."""
        return self._thread.is_alive() or not self._roots

    @property
    def is_ready(self) -> bool:
        """Return whether every change from now on is reported: setting the watches takes a while on large folders."""
        return self._ready.is_set() or not self._roots

    def take(self, timeout_s: float) -> set[Path]:
        """Return absolute paths that may have changed, waiting up to `timeout_s` for the first."""
        paths: set[Path] = set()
        try:
            paths |= self._hints.get(timeout=timeout_s) if timeout_s > 0 else self._hints.get_nowait()
            while True:
                paths |= self._hints.get_nowait()
        except queue.Empty:
            return paths

    def _watch(self) -> None:
        try:
            for changes in watchfiles.watch(
                *self._roots,
                watch_filter=None,
                debounce=_DEBOUNCE_MS,
                step=_STEP_MS,
                stop_event=self._stop,
                force_polling=False,  # a scan does the same for less
                rust_timeout=_READY_MS,
                yield_on_timeout=True,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._ready.set()
                if changes:
                    self._hints.put({Path(path) for _, path in changes})
        except OSError as error:
            _log.warning("file events are not available (%s); the folders are scanned often instead", error)
            self.has_failed = True


def has_events(root: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Return whether the file system reports every change; those that other machines write to do not."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return True
    path, longest, file_system = f"{os.fspath(root).rstrip('/')}/", "", ""
    for line in lines:
        _, mount, kind, *_ = line.split(" ")
        mount = f"{_unescape(mount).rstrip('/')}/"
        if path.startswith(mount) and len(mount) >= len(longest):
            longest, file_system = mount, kind
    return file_system not in _REMOTE.split()


def _unescape(path: str) -> str:
    """Replace the four characters that /proc writes in octal: space, tab, line feed, backslash."""
    for code in ("\\040", "\\011", "\\012", "\\134"):
        path = path.replace(code, chr(int(code[1:], 8)))
    return path
