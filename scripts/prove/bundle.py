"""A bundle, made here, installs, starts and answers on a machine without a network, and tries none.

    .venv/bin/python scripts/prove/bundle.py [FOLDER]

Makes a bundle twice (both must be the same), signs it, verifies it, alters a byte in each of 50 files (each must be
noticed), and installs it in a namespace without a network, with an empty environment, under strace. Then the server
that was installed starts there, indexes its manual and answers a question; its llama.cpp must be one for other
processors too. Ends with status 1 when something of this does not hold, or when anything tried to reach an address off
the machine. Needs a network for making it, and Linux with unshare, strace, objdump and ssh-keygen. FOLDER, a new one,
keeps what was made: about 4 GB.
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

_ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(_ROOT / "tests" / "e2e")]

from isolation import NO_NETWORK  # noqa: E402
from running import wait_until  # noqa: E402

from server.ops.airgap import attempts, strace  # noqa: E402

_QUESTION = "How do I watch my own folder?"
_IN_ANSWER = "--docs"
_INDEXED_S = 120.0  # for the manual, beside whatever else the machine does


def make(out: Path, key: Path | None) -> Path:
    command = [sys.executable, "-m", "server", "bundle", f"--out={out}", *([f"--sign={key}"] if key else [])]
    subprocess.run(command, cwd=_ROOT, check=True)
    return out


def unpacked(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def is_verified(root: Path, signers: Path) -> bool:
    command = ["sh", root / "install.sh", "--verify", "--signers", signers, "--identity", "us"]
    return subprocess.run(command, capture_output=True).returncode == 0


def num_noticed(root: Path, signers: Path, count: int) -> int:
    """Of so many files, each altered by one byte."""
    rng, noticed = random.Random(1), 0
    files = sorted(
        path for path in root.rglob("*") if path.is_file() and path.name != "install.sh" and path.stat().st_size
    )
    for path in rng.sample(files, count):
        with path.open("r+b") as file:
            at = rng.randrange(path.stat().st_size)
            file.seek(at)
            (sound,) = file.read(1)
            file.seek(at)
            file.write(bytes([sound ^ 1]))
            file.flush()
            noticed += not is_verified(root, signers)
            file.seek(at)
            file.write(bytes([sound]))
    return noticed


def isolated(trace: Path, *command: str | Path, home: Path) -> list[str]:
    python = getattr(sys, "_base_executable", sys.executable)
    empty = ("env", "-i", f"PATH={os.defpath}:/usr/local/bin", f"HOME={home}", f"PYTHON={python}")
    return [*NO_NETWORK, *strace(trace), *empty, *map(str, command)]


def answer(target: Path, home: Path, trace: Path) -> str:
    """Of the server that was installed, asked in its own namespace."""
    log = home / "log"
    command = isolated(trace, target / ".venv/bin/cloister", "serve", "--port=8000", home=home)
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=home)
    try:
        wait_until(lambda: "Index:" in log.read_text() or server.poll() is not None, 120, "the server's lines")
        code = (
            "import sys, urllib.request as u; u.install_opener(u.build_opener(u.ProxyHandler({})));"
            "print(u.urlopen(u.Request('http://127.0.0.1:8000/v1/chat/completions', sys.argv[1].encode(),"
            " {'Content-Type': 'application/json'})).read().decode())"
        )
        body = json.dumps({"messages": [{"role": "user", "content": _QUESTION}]})
        inside = ["nsenter", "--preserve-credentials", "-U", "-n", "-t", str(server.pid), sys.executable, "-c", code]
        until = time.monotonic() + _INDEXED_S
        while True:
            done = subprocess.run([*inside, body], capture_output=True, text=True, timeout=60)
            if _IN_ANSWER in done.stdout or time.monotonic() > until:
                return done.stdout or log.read_text() + done.stderr
            time.sleep(1)
    finally:
        server.terminate()
        server.wait(30)


def num_wide(target: Path) -> int:
    """Registers of AVX-512 that llama.cpp names: a processor without them would end it."""
    (library,) = (target / ".venv").glob("lib/python*/site-packages/llama_cpp/lib/libggml-cpu.so")
    told = subprocess.run(["objdump", "-d", library], capture_output=True, text=True, check=True).stdout
    return told.count("%zmm")


def prove(folder: Path) -> list[str]:
    """What does not hold."""
    wrong = []
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers = folder / "signers"
    signers.write_text(f"us {key.with_suffix('.pub').read_text()}")
    started = time.monotonic()
    one, two = make(folder / "one.tar", key), make(folder / "two.tar", key)
    print(f"{(time.monotonic() - started) / 2:.0f} s and {one.stat().st_size / 1e6:.0f} MB for each of two bundles")
    if one.read_bytes() != two.read_bytes():
        wrong.append("the second bundle is another")
    two.unlink()
    root = unpacked(one, folder / "bundle")
    if not is_verified(root, signers):
        wrong.append("the bundle is not verified")
    noticed = num_noticed(root, signers, 50)
    print(f"{noticed} of 50 altered files noticed")
    if noticed != 50:
        wrong.append("an altered file was not noticed")
    home, target = folder / "home", folder / "target"
    home.mkdir()
    started = time.monotonic()
    install = ("sh", root / "install.sh", "--to", target, "--signers", signers, "--identity", "us")
    subprocess.run(isolated(folder / "install.trace", *install, home=home), check=True, cwd=home)
    print(f"installed in {time.monotonic() - started:.0f} s")
    if wide := num_wide(target):
        wrong.append(f"llama.cpp is made for this machine's processor: AVX-512 {wide} times")
    said = answer(target, home, folder / "serve.trace")
    print(said)
    if _IN_ANSWER not in said:
        wrong.append("no answer")
    for trace in ("install.trace", "serve.trace"):
        tried = attempts(folder / trace)
        print(f"{trace}: {len(tried)} attempts to reach another machine")
        wrong += tried
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    options = parser.parse_args()
    for tool in ("unshare", "strace", "ssh-keygen", "nsenter", "objdump"):
        if not shutil.which(tool):
            parser.error(f"{tool} is needed")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if options.folder:
        options.folder.mkdir(parents=True)
        wrong = prove(options.folder.absolute())
    else:
        with tempfile.TemporaryDirectory() as folder:
            wrong = prove(Path(folder))
    print("\n".join(wrong) or "all of it holds")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
