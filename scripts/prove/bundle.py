"""Prove that a bundle installs, starts and answers on a machine without a network, and tries to reach none.

    .venv/bin/python scripts/prove/bundle.py [FOLDER]

Builds a bundle twice (both must be equal), signs it, verifies it, alters a byte in each of 50 files (each must be
detected), and installs it in a namespace without a network, with an empty environment, under strace. Then the installed
server starts there, indexes its manual and answers a question; its llama.cpp must also run on other processors. The
exit status is 1 when one of these fails, or when anything tried to reach an address off the machine. Needs a network to
build, and Linux with unshare, strace, objdump and ssh-keygen. FOLDER, a new one, keeps the files: about 4 GB.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import proof
from isolation import NO_NETWORK
from real_server import wait_until

from server.ops.airgap import attempts, strace

_QUESTION = "How do I watch my own folder?"
_IN_ANSWER = "--docs"
_INDEXING_TIMEOUT_S = 120.0  # for the manual


def build(out: Path, key: Path | None) -> Path:
    command = [sys.executable, "-m", "server", "bundle", f"--out={out}", *([f"--sign={key}"] if key else [])]
    subprocess.run(command, cwd=proof.ROOT, check=True)
    return out


def unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def is_verified(root: Path, signers: Path) -> bool:
    command = ["sh", str(root / "install.sh"), "--verify", "--signers", str(signers), "--identity", "us"]
    return subprocess.run(command, capture_output=True).returncode == 0


def num_detected(root: Path, signers: Path, count: int) -> int:
    """Alter one byte in each of so many files, one file after the other; return how many of them are detected."""
    rng, detected = random.Random(1), 0
    files = sorted(
        path for path in root.rglob("*") if path.is_file() and path.name != "install.sh" and path.stat().st_size
    )
    for path in rng.sample(files, count):
        with path.open("r+b") as file:
            at = rng.randrange(path.stat().st_size)
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1]))
            file.flush()
            detected += not is_verified(root, signers)
            file.seek(at)
            file.write(bytes([byte]))
    return detected


def isolated(trace: Path, *command: str | Path, home: Path) -> list[str]:
    """Return the command line that runs a command without a network and environment, under strace."""
    python = getattr(sys, "_base_executable", sys.executable)
    empty = ("env", "-i", f"PATH={os.defpath}:/usr/local/bin", f"HOME={home}", f"PYTHON={python}")
    return [*NO_NETWORK, *strace(trace), *empty, *map(str, command)]


def answer(target: Path, home: Path, trace: Path) -> str:
    """Start the installed server, and return its reply to a question that is sent in its namespace."""
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
        deadline = time.monotonic() + _INDEXING_TIMEOUT_S
        while True:
            client = subprocess.run([*inside, body], capture_output=True, text=True, timeout=60)
            if _IN_ANSWER in client.stdout or time.monotonic() > deadline:
                return client.stdout or log.read_text() + client.stderr
            time.sleep(1)
    finally:
        server.terminate()
        server.wait(30)


def num_avx512_registers(target: Path) -> int:
    """Return how often llama.cpp names AVX-512 registers: a processor without them could not run it."""
    (library,) = (target / ".venv").glob("lib/python*/site-packages/llama_cpp/lib/libggml-cpu.so")
    listing = subprocess.run(["objdump", "-d", library], capture_output=True, text=True, check=True).stdout
    return listing.count("%zmm")


def prove(folder: Path) -> list[str]:
    """Return what does not hold."""
    problems = []
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers = folder / "signers"
    signers.write_text(f"us {key.with_suffix('.pub').read_text()}")
    started = time.monotonic()
    one, two = build(folder / "one.tar", key), build(folder / "two.tar", key)
    print(f"{(time.monotonic() - started) / 2:.0f} s and {one.stat().st_size / 1e6:.0f} MB for each of two bundles")
    if one.read_bytes() != two.read_bytes():
        problems.append("the second bundle differs")
    two.unlink()
    root = unpack(one, folder / "bundle")
    if not is_verified(root, signers):
        problems.append("the bundle is not verified")
    detected = num_detected(root, signers, 50)
    print(f"{detected} of 50 altered files detected")
    if detected != 50:
        problems.append("an altered file was not detected")
    home, target = folder / "home", folder / "target"
    home.mkdir()
    started = time.monotonic()
    install = ("sh", root / "install.sh", "--to", target, "--signers", signers, "--identity", "us")
    subprocess.run(isolated(folder / "install.trace", *install, home=home), check=True, cwd=home)
    print(f"installed in {time.monotonic() - started:.0f} s")
    if count := num_avx512_registers(target):
        problems.append(f"llama.cpp is built for this machine's processor: AVX-512 registers {count} times")
    reply = answer(target, home, folder / "serve.trace")
    print(reply)
    if _IN_ANSWER not in reply:
        problems.append("no answer")
    for trace in ("install.trace", "serve.trace"):
        lines = attempts(folder / trace)
        print(f"{trace}: {len(lines)} attempts to reach another machine")
        problems += lines
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    options = parser.parse_args()
    for tool in ("unshare", "strace", "ssh-keygen", "nsenter", "objdump"):
        if not shutil.which(tool):
            parser.error(f"{tool} is needed")
    proof.print_machine()
    if options.folder:
        options.folder.mkdir(parents=True)
        problems = prove(options.folder.absolute())
    else:
        with tempfile.TemporaryDirectory() as folder:
            problems = prove(Path(folder))
    return proof.exit_status(problems)


if __name__ == "__main__":
    raise SystemExit(main())
