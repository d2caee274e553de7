"""The Dockerfile carried out without Docker, on Debian made by debootstrap, and the result run without a network.

    sudo .venv/bin/python scripts/prove/dockerfile.py [--folder DIR [--built]]

Every step is read from the Dockerfile, so this cannot fall behind it: what it has no meaning for is an error. A stage
is a folder, a RUN is a chroot in namespaces of its own. `python:3.11-slim-bookworm` cannot be had without a registry;
Debian bookworm with its own Python 3.11 stands for it. What pip is told on this machine (settings, certificates, local
folders of packages) is lent to the steps and leaves nothing in the result.

Then, as the README says: a key is made, the server started with a folder to read, as the image's user, with a loopback
interface and nothing else. The health check must succeed, a stranger get a 401, a question its cited answer, SIGTERM an
exit code of 0, and strace must see no attempt to leave the machine. Prints the figures; exits 1 when one of these
fails. Needs root, debootstrap, strace, about 7 GB of disk and, to build, a network. `--folder` keeps the stages, and
the base for the next time; `--built` runs what it has once more.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import pathspec

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "e2e")]

from running import write_handbook  # noqa: E402

from server.ops.airgap import attempts, strace  # noqa: E402

_MIRROR = "http://deb.debian.org/debian"
_BASE = re.compile(r"python:3\.11-slim-(\w+)")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HEALTH_S = 240.0  # the first start converts the embedding model, on whatever machine this is
_Found = TypeVar("_Found")
_ASK = """
import json, sys, urllib.request as u
key, question = sys.argv[1:]
body = json.dumps({"messages": [{"role": "user", "content": question}]}).encode()
headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
try:
    reply = u.urlopen(u.Request("http://127.0.0.1:8000/v1/chat/completions", body, headers))
    print(json.load(reply)["choices"][0]["message"]["content"])
except u.HTTPError as error:
    print(error.code)
"""


class ProofError(Exception):
    """What did not hold."""


class Step(NamedTuple):
    word: str
    text: str


class Stage(NamedTuple):
    base: str
    name: str | None
    steps: list[Step]


@dataclass
class Image:
    """A file system, and what is to be run in it."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    folder: str = "/"
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    @property
    def home(self) -> str:
        """The user's, as Docker sets it."""
        found = re.search(rf"^{re.escape(self.user)}:(?:[^:]*:){{4}}([^:]*)", self._passwd, re.MULTILINE)
        return found[1] if found else "/"

    @property
    def _passwd(self) -> str:
        return (self.root / "etc" / "passwd").read_text()

    def at(self, path: str) -> Path:
        """Where a path of the image is on this machine."""
        return self.root / Path("/", self.folder, path).relative_to("/")


def read_dockerfile(text: str) -> list[Stage]:
    """Raises `ProofError` for what begins with no FROM."""
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    stages: list[Stage] = []
    for line in joined.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "FROM":
            base, _, name = re.sub(r"(?i)\s+as\s+", "\0", rest.strip()).partition("\0")
            stages.append(Stage(base, name or None, []))
        elif not stages:
            raise ProofError(f"before the first FROM: {line}")
        else:
            stages[-1].steps.append(Step(word.upper(), rest.strip()))
    return stages


# Carrying steps out


class Builder:
    """Makes images of stages in `folder`; `lent` are paths of this machine that RUN steps see at the same place.

    Where it is built already, only what the steps say about running it is read.
    """

    def __init__(self, folder: Path, context: Path, lent: list[Path], is_built: bool) -> None:
        self._folder = folder
        self._context = context
        self._lent = lent
        self._is_built = is_built
        self._ignored = pathspec.GitIgnoreSpec.from_lines(_anchored(context / ".dockerignore"))
        self._images: dict[str, Image] = {}

    def build(self, stages: list[Stage]) -> Image:
        for number, stage in enumerate(stages):
            image = Image(self._folder / f"stage{number}")
            say(f"FROM {stage.base}")
            if not self._is_built:
                copy_all(self._base(stage.base), image.root)
            for step in stage.steps:
                say(f"{step.word} {step.text}")
                if not (self._is_built and step.word in ("RUN", "COPY", "WORKDIR", "VOLUME")):
                    self._carry_out(image, step)
            self._images[stage.name or str(number)] = image
        return image

    def _base(self, name: str) -> Path:
        if name in self._images:
            return self._images[name].root
        if not (match := _BASE.fullmatch(name)):
            raise ProofError(f"no idea what stands for the image {name}")
        path = self._folder / f"base-{match[1]}"
        if not path.exists():
            packages = "--include=python3,python3-venv,ca-certificates"
            command = ["debootstrap", "--variant=minbase", packages, match[1], f"{path}.part", _MIRROR]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            Path(f"{path}.part").rename(path)
        version = subprocess.run(["chroot", path, "python3", "-V"], capture_output=True, text=True, check=True).stdout
        if not version.startswith("Python 3.11."):
            raise ProofError(f"{match[1]} has {version.strip()}, the image has 3.11")
        return path

    def _carry_out(self, image: Image, step: Step) -> None:
        match step.word:
            case "RUN":
                self._run(image, step.text)
            case "COPY":
                self._copy(image, shlex.split(step.text))
            case "ENV":
                image.environment |= dict(pair.split("=", 1) for pair in shlex.split(step.text))
            case "WORKDIR":
                image.folder = str(Path(image.folder, step.text))
                image.at(".").mkdir(parents=True, exist_ok=True)
            case "USER":
                image.user = step.text
            case "ENTRYPOINT":
                image.entrypoint = json.loads(step.text)
            case "CMD":
                image.command = json.loads(step.text)
            case "HEALTHCHECK":
                image.health = json.loads(step.text.partition("CMD")[2])
            case "VOLUME":
                for path in json.loads(step.text):
                    image.at(path).mkdir(parents=True, exist_ok=True)
            case "EXPOSE":
                pass
            case _:
                raise ProofError(f"no idea what {step.word} does")

    def _run(self, image: Image, text: str) -> None:
        with lending(image.root, self._lent) as mounts:
            pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
            inside = Image(image.root, image.environment | pip, image.folder, image.user)
            finished = subprocess.run(contained(inside, ["/bin/sh", "-c", text], mounts=mounts))
        if finished.returncode:
            raise ProofError(f"exit code {finished.returncode}: RUN {text}")

    def _copy(self, image: Image, words: list[str]) -> None:
        *sources, target = [word for word in words if not word.startswith("--")]
        stage = next((word.partition("=")[2] for word in words if word.startswith("--from=")), None)
        if any(word.startswith("--") and not word.startswith("--from=") for word in words):
            raise ProofError(f"no idea what these flags of COPY do: {words}")
        origin = self._images[stage].root if stage else self._context
        for source in sources:
            found = origin / source.lstrip("/")
            into = image.at(target)
            if found.is_dir():
                shutil.copytree(
                    found, into, symlinks=True, dirs_exist_ok=True, ignore=None if stage else self._ignoring
                )
            else:
                into = into / found.name if target.endswith("/") or into.is_dir() else into
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, into)

    def _ignoring(self, folder: str, names: list[str]) -> set[str]:
        below = Path(folder).relative_to(self._context)
        return {name for name in names if self._ignored.match_file(str(below / name))}


def _anchored(dockerignore: Path) -> list[str]:
    """As git spells the same: without `**`, a pattern is of the top folder alone."""
    lines = dockerignore.read_text().split()
    return [line if line.startswith("**") else f"/{line}" for line in lines]


def copy_all(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


# Running in a file system


def contained(
    image: Image, command: list[str], *, mounts: list[tuple[Path, Path]] | None = None, network: bool = True
) -> list[str]:
    """The command in the image: as its user, with its environment, in namespaces of its own, as process 1."""
    lines = ['mount -t proc proc "$ROOT/proc"', 'mount --rbind /dev "$ROOT/dev"']
    for source, target in mounts or []:
        lines.append(f"mount --bind -o ro {shlex.quote(str(source))} {shlex.quote(str(target))}")
    lines += [] if network else ["ip link set lo up"]
    variables = [f"{name}={value}" for name, value in {**image.environment, "HOME": image.home}.items()]
    inside = f"cd {shlex.quote(image.folder)} && exec {shlex.join(command)}"
    user = [] if image.user == "root" else [f"--userspec={image.user}"]
    lines.append(
        f'exec env -i {shlex.join(variables)} chroot {shlex.join(user)} "$ROOT" /bin/sh -c {shlex.quote(inside)}'
    )
    flags = ["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", *([] if network else ["--net"])]
    return ["env", f"ROOT={image.root}", "unshare", *flags, "sh", "-e", "-c", "\n".join(lines)]


@contextmanager
def lending(root: Path, paths: list[Path]) -> Iterator[list[tuple[Path, Path]]]:
    """Mounts of these paths at the same place below `root`, and nothing left of their places afterwards."""
    made: list[Path] = []
    mounts = []
    for path in paths:
        target = root / path.relative_to("/")
        for missing in reversed([each for each in (target, *target.parents) if not each.exists()]):
            missing.touch() if missing == target and path.is_file() else missing.mkdir()
            made.append(missing)
        mounts.append((path, target))
    try:
        yield mounts
    finally:
        for path in reversed(made):
            path.rmdir() if path.is_dir() else path.unlink()


def lent_paths() -> list[Path]:
    """What pip and apt need of this machine: name servers, pip's settings, certificates, folders of packages."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    words = re.split(r"[\s'\"=]+", listed)
    named = [Path(word.removeprefix("file://")) for word in words if word.startswith(("/", "file:///"))]
    folders = [path.parent if path.name == "simple" else path for path in named]
    found = [Path("/etc/resolv.conf"), Path("/etc/pip.conf"), *folders]
    return [path for path in dict.fromkeys(found) if path.exists()]


# The proof


def prove(image: Image, folder: Path) -> None:
    """As the README's three lines, with what must hold in between."""
    handbook = write_handbook(folder / "handbook")
    docs = [(handbook, image.at("/docs"))]
    create = contained(image, [*image.entrypoint, "keys", "create", "--name", "me"], network=False)
    key = subprocess.run(create, capture_output=True, text=True, check=True).stdout.split()[0]
    trace, log = folder / "trace", folder / "server.log"
    started = time.monotonic()
    with log.open("wb") as output:
        line = contained(image, [*image.entrypoint, *image.command], mounts=docs, network=False)
        process = subprocess.Popen([*strace(trace), *line], stdout=output, stderr=output)
    try:
        server = _until(lambda: child_of(process.pid), "a process")
        _until(lambda: not within(server, image, image.health).returncode, "a healthy server")
        say(f"healthy after {time.monotonic() - started:.1f} s, {image.user} ({uid_of(server)}), alone with loopback")
        python = image.health[0]

        def ask(question: str, key: str) -> str:
            return within(server, image, [python, "-c", _ASK, key, question]).stdout.strip()

        must(ask("How long is parental leave?", "") == "401", "a stranger gets a 401")
        answer = _until(lambda: "[1]" in (said := ask("How long is parental leave?", key)) and said, "a cited answer")
        must("sixteen weeks" in answer, f"the answer is of the folder: {answer}")
        os.kill(server, 15)
        stopping = time.monotonic()
        must(process.wait(20) == 0, f"SIGTERM ends it well, in {time.monotonic() - stopping:.1f} s")
    finally:
        if process.poll() is None:
            process.kill()
    must(trace.stat().st_size > 0 and not attempts(trace), f"attempts to leave the machine: {len(attempts(trace))}")


def within(server: int, image: Image, command: list[str]) -> "subprocess.CompletedProcess[str]":
    """As `docker exec`: in the namespaces and the file system of the server."""
    variables = [f"{name}={value}" for name, value in {**image.environment, "HOME": image.home}.items()]
    enter = ["nsenter", "-t", str(server), "--mount", "--net", "--pid", "--root", "--wd"]
    return subprocess.run([*enter, "env", "-i", *variables, *command], capture_output=True, text=True, timeout=60)


def child_of(parent: int) -> int | None:
    """The process below `unshare`, once it is the server."""
    for path in Path(f"/proc/{parent}/task/{parent}").glob("children"):
        for child in map(int, path.read_text().split()):
            if b"cloister" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[1]:
                return child
    return None


def uid_of(process: int) -> str:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)
    return f"uid {found[1]}" if found else "?"


def _until(condition: Callable[[], _Found], what: str) -> _Found:
    deadline = time.monotonic() + _HEALTH_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise ProofError(f"not within {_HEALTH_S:g} s: {what}")
        time.sleep(0.2)
    return found


def must(holds: bool, what: str) -> None:
    if not holds:
        raise ProofError(what)
    say(f"holds: {what}")


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the stages are made, and stay")
    parser.add_argument("--built", action="store_true", help="run what is in that folder, and build nothing")
    options = parser.parse_args()
    if options.built and not options.folder:
        parser.error("--built of which --folder?")
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        try:
            image = Builder(folder, ROOT, lent_paths(), options.built).build(
                read_dockerfile((ROOT / "Dockerfile").read_text())
            )
            size = int(subprocess.run(["du", "-sm", image.root], capture_output=True, text=True).stdout.split()[0])
            say(f"{size:,} MB" if options.built else f"built in {time.monotonic() - started:.0f} s, {size:,} MB")
            prove(image, Path(scratch))
        except ProofError as error:
            say(f"FAILED: {error}")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
