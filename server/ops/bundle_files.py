"""The files of a bundle: their checksums, their signature and the archive they are packed in."""

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]  # of this installation
CHECKSUMS_FILE = "SHA256SUMS"
SIGNATURE_NAMESPACE = "cloister-bundle"  # of ssh-keygen's signatures
_DEFAULT_TIME = 315_532_800  # 1980-01-01, in Unix seconds


class BundleError(Exception):
    """The message is one line for the user."""


def bundle_files(root: Path) -> dict[str, Path]:
    """Return the files by their path in the bundle, in order."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return dict(sorted(files.items()))


def checksums(root: Path) -> str:
    """Return the checksums of all other files in the format of sha256sum."""
    files = bundle_files(root).items()
    return "".join(f"{sha256_of(path)}  {name}\n" for name, path in files if name != CHECKSUMS_FILE)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sign(file: Path, key: Path) -> None:
    """Sign a file with an SSH key, so that ssh-keygen is enough to verify it. Raises `BundleError`."""
    command = ["ssh-keygen", "-Y", "sign", "-q", "-n", SIGNATURE_NAMESPACE, "-f", str(key), str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BundleError("ssh-keygen is not installed, which signs; install OpenSSH") from None
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise BundleError(f"ssh-keygen could not sign: {reason}")


def pack(root: Path, out: Path) -> None:
    """Pack the files in order, without owners and with one time, so that the same files give the same archive."""
    mtime = int(os.environ.get("SOURCE_DATE_EPOCH", _DEFAULT_TIME))

    def normalize(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mtime = mtime
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    part = out.with_name(f"{out.name}.part")
    with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in _walk(root):
            archive.add(path, path.relative_to(root.parent).as_posix(), recursive=False, filter=normalize)
    part.replace(out)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the folder and everything in it, in order."""
    yield folder
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path
