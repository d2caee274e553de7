"""Create .venv and install the packages pinned in requirements/*.txt.

scripts/serve, scripts/check and scripts/test call it; it returns in a few milliseconds when everything is installed.
The system's Python runs it, so it imports only the standard library.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
TORCH = "torch==2.13.0"
TORCH_CPU_WHEELS = "https://download.pytorch.org/whl/cpu/torch/"
PROBE_S = 2


class InstallError(Exception):
    """The message is one line for the user."""


def main(groups: list[str]) -> int:
    files = {VENV / f".installed-{group}": ROOT / "requirements" / f"{group}.txt" for group in groups}
    missing = {stamp: file for stamp, file in files.items() if not is_stamped(stamp, fingerprint(file))}
    if not missing:
        return 0
    try:
        install(list(missing.values()))
    except InstallError as error:
        print(f"cloister: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cloister: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    for stamp, file in missing.items():
        stamp.write_text(fingerprint(file))
    return 0


def is_stamped(stamp: Path, expected: str) -> bool:
    return stamp.is_file() and stamp.read_text() == expected


def fingerprint(requirements: Path) -> str:
    """Return a digest of what an installation depends on: pins, this script, pyproject.toml, Python, the folder."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {VENV}".encode())
    for path in (requirements, Path(__file__), ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def install(requirements: list[Path]) -> None:
    say(f"Installing into {VENV} (once; about 560 MB to download, 1.9 GB on disk; log: {LOG})")
    create_venv()
    if not is_installed("llama_cpp"):
        require_compiler()
    pins = [f"-c{path}" for path in requirements]
    if not is_installed("torch"):
        install_torch(pins)
    is_built = is_installed("llama_cpp")
    building = "" if is_built else ", and llama.cpp, which is compiled here: about five minutes on two cores"
    pip("install", *(f"-r{path}" for path in requirements), title=f"  the pinned packages{building}")
    pip("install", "--no-deps", f"-e{ROOT}", title="  Cloister itself")


def create_venv() -> None:
    if PYTHON.exists() and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except (subprocess.CalledProcessError, OSError) as error:
        raise InstallError(
            f"Python's venv module does not work ({error}); on Debian and Ubuntu: sudo apt install python3-venv"
        ) from None


def require_compiler() -> None:
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if name):
        hint = (
            "xcode-select --install"
            if platform.system() == "Darwin"
            else "sudo apt install g++, or your system's equivalent"
        )
        raise InstallError(f"llama.cpp is compiled on first use and needs a C++ compiler, which is missing: {hint}")


def install_torch(pins: list[str]) -> None:
    """Install torch; without a GPU the CPU build, a tenth of the size, from a local wheel or PyTorch's index."""
    if platform.system() == "Linux" and not has_gpu():
        local = f"  torch, CPU build from a local wheel if there is one ({TORCH}+cpu)"
        if pip("install", *pins, f"{TORCH}+cpu", title=local, may_fail=True):
            return
        if is_reachable(TORCH_CPU_WHEELS):
            source = ["--find-links", TORCH_CPU_WHEELS]
            pip("install", *pins, f"{TORCH}+cpu", *source, title="  torch, CPU build, about 190 MB")
            return
        say("  PyTorch's CPU builds cannot be reached; the general build, with CUDA, is about 3 GB")
    pip("install", *pins, TORCH, title=f"  {TORCH}")


def has_gpu() -> bool:
    return bool(shutil.which("nvidia-smi")) or Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists()


def is_reachable(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_S):
            return True
    except (urllib.error.URLError, OSError, ValueError):
        return False


def is_installed(module: str) -> bool:
    return any((VENV / "lib").glob(f"python*/site-packages/{module}/__init__.py"))


def pip(*arguments: str, title: str, may_fail: bool = False) -> bool:
    """Run pip with its output in the log and the elapsed time on the screen; return whether it succeeded."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    started = time.monotonic()
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(command)}\n".encode())
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            show_progress(process, title, started)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode and not may_fail:
        raise InstallError(f"pip could not install{title.rstrip()}: {last_error()} (log: {LOG})")
    return process.returncode == 0


def show_progress(process: "subprocess.Popen[bytes]", text: str, started: float) -> None:
    is_terminal = sys.stdout.isatty()
    end = "" if is_terminal else "\n"
    print(text, end=end, flush=True)
    while process.poll() is None:
        time.sleep(0.2)
        if is_terminal:
            print(f"\r{text} … {time.monotonic() - started:.0f} s", end="", flush=True)
    if is_terminal:
        print(f"\r{text}: {time.monotonic() - started:.0f} s   ")


def last_error() -> str:
    lines = LOG.read_text(errors="replace").splitlines()
    prefixes = ("error:", "cmake error", "fatal error")
    errors = [line.strip() for line in lines if line.lstrip().lower().startswith(prefixes)]
    return errors[-1] if errors else lines[-1] if lines else "no output"


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:] or ["runtime"]))
