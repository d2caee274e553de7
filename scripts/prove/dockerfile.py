"""Carry out the Dockerfile without Docker, on Debian made by debootstrap, and run the result without a network.

    sudo .venv/bin/python scripts/prove/dockerfile.py [--folder DIR [--skip-build]]

Every step is read from the Dockerfile, so this script cannot diverge from it: an unknown instruction is an error. A
stage is a folder, a RUN is a chroot in namespaces of its own. The base image `python:3.11-slim-bookworm` needs a
registry; Debian bookworm with its own Python 3.11 takes its place. What pip needs of this machine (settings,
certificates, local folders of packages) is mounted for the steps and leaves nothing in the result.

Then, as in the README, a key is created and the server started with a folder to index, as the image's user, with a
loopback interface and nothing else. The health check must succeed, a request without a key get a 401, a question a
cited answer, SIGTERM an exit status of 0, and strace must see no attempt to leave the machine. Prints the figures; the
exit status is 1 when one of these fails. Needs root, debootstrap, strace, about 7 GB of disk and, to build, a network.
`--folder` keeps the stages, and the base for the next time; `--skip-build` runs what the folder has.
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
import proof
from real_server import write_handbook

from server.ops.airgap import attempts, strace

_MIRROR = "http://deb.debian.org/debian"
_BASE = re.compile(r"python:3\.11-slim-(\w+)")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START_TIMEOUT_S = 240.0  # the first start converts the embedding model
_T = TypeVar("_T")
_CLIENT = """
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
    """A condition does not hold."""


class Step(NamedTuple):
    instruction: str
    text: str


class Stage(NamedTuple):
    base: str
    name: str | None
    steps: list[Step]


@dataclass
class Image:
    """A file system, and what the Dockerfile says about running it."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    folder: str = "/"
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    @property
    def home(self) -> str:
        """The user's home folder, as Docker sets it."""
        entry = re.search(rf"^{re.escape(self.user)}:(?:[^:]*:){{4}}([^:]*)", self._passwd, re.MULTILINE)
        return entry[1] if entry else "/"

    @property
    def _passwd(self) -> str:
        return (self.root / "etc" / "passwd").read_text()

    def at(self, path: str) -> Path:
        """Return where a path of the image is on this machine."""
        return self.root / Path("/", self.folder, path).relative_to("/")


def read_dockerfile(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile. Raises `ProofError` for an instruction before the first FROM."""
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


class Builder:
    """Builds images of stages in `folder`.

    RUN steps see the paths `mounted` of this machine at the same place. With `is_built`, the folder has the images, and
    only what the steps say about running them is read.
    """

    def __init__(self, folder: Path, context: Path, mounted: list[Path], is_built: bool) -> None:
        self._folder = folder
        self._context = context
        self._mounted = mounted
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
                say(f"{step.instruction} {step.text}")
                if not (self._is_built and step.instruction in ("RUN", "COPY", "WORKDIR", "VOLUME")):
                    self._execute(image, step)
            self._images[stage.name or str(number)] = image
        return image

    def _base(self, name: str) -> Path:
        if name in self._images:
            return self._images[name].root
        if not (match := _BASE.fullmatch(name)):
            raise ProofError(f"there is no replacement for the base image {name}")
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

    def _execute(self, image: Image, step: Step) -> None:
        match step.instruction:
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
                raise ProofError(f"unknown instruction: {step.instruction}")

    def _run(self, image: Image, text: str) -> None:
        with mount_points(image.root, self._mounted) as mounts:
            pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
            inside = Image(image.root, image.environment | pip, image.folder, image.user)
            finished = subprocess.run(contained(inside, ["/bin/sh", "-c", text], mounts=mounts))
        if finished.returncode:
            raise ProofError(f"exit code {finished.returncode}: RUN {text}")

    def _copy(self, image: Image, words: list[str]) -> None:
        *sources, target = [word for word in words if not word.startswith("--")]
        stage = next((word.partition("=")[2] for word in words if word.startswith("--from=")), None)
        if any(word.startswith("--") and not word.startswith("--from=") for word in words):
            raise ProofError(f"unknown flags of COPY: {words}")
        origin = self._images[stage].root if stage else self._context
        for source in sources:
            path = origin / source.lstrip("/")
            into = image.at(target)
            if path.is_dir():
                ignore = None if stage else self._ignored_names
                shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True, ignore=ignore)
            else:
                into = into / path.name if target.endswith("/") or into.is_dir() else into
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, into)

    def _ignored_names(self, folder: str, names: list[str]) -> set[str]:
        below = Path(folder).relative_to(self._context)
        return {name for name in names if self._ignored.match_file(str(below / name))}


def _anchored(dockerignore: Path) -> list[str]:
    """Return the patterns in git's syntax: in .dockerignore, a pattern without `**` applies to the top folder only."""
    lines = dockerignore.read_text().split()
    return [line if line.startswith("**") else f"/{line}" for line in lines]


def copy_all(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


def contained(
    image: Image, command: list[str], *, mounts: list[tuple[Path, Path]] | None = None, network: bool = True
) -> list[str]:
    """Return the command line that runs a command in the image, as its user and as process 1 of new namespaces."""
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
def mount_points(root: Path, paths: list[Path]) -> Iterator[list[tuple[Path, Path]]]:
    """Create and yield the mount points of these paths below `root`, and remove them afterwards."""
    created: list[Path] = []
    mounts = []
    for path in paths:
        target = root / path.relative_to("/")
        for missing in reversed([each for each in (target, *target.parents) if not each.exists()]):
            missing.touch() if missing == target and path.is_file() else missing.mkdir()
            created.append(missing)
        mounts.append((path, target))
    try:
        yield mounts
    finally:
        for path in reversed(created):
            path.rmdir() if path.is_dir() else path.unlink()


def paths_for_pip() -> list[Path]:
    """Return what pip and apt need of this machine: name servers, settings, certificates, folders of packages."""
    settings = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    words = re.split(r"[\s'\"=]+", settings)
    values = [Path(word.removeprefix("file://")) for word in words if word.startswith(("/", "file:///"))]
    folders = [path.parent if path.name == "simple" else path for path in values]
    paths = [Path("/etc/resolv.conf"), Path("/etc/pip.conf"), *folders]
    return [path for path in dict.fromkeys(paths) if path.exists()]


def prove(image: Image, folder: Path) -> None:
    """Run the README's commands and check what must hold. Raises `ProofError`."""
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
        server = _until(lambda: child_of(process.pid), "the server's process")
        _until(lambda: not within(server, image, image.health).returncode or None, "a healthy server")
        say(f"healthy after {time.monotonic() - started:.1f} s as {image.user} ({uid_of(server)})")
        python = image.health[0]

        def ask(question: str, key: str) -> str:
            return within(server, image, [python, "-c", _CLIENT, key, question]).stdout.strip()

        must(ask("How long is parental leave?", "") == "401", "a request without a key gets a 401")

        def cited_answer() -> str | None:
            answer = ask("How long is parental leave?", key)
            return answer if "[1]" in answer else None

        answer = _until(cited_answer, "a cited answer")
        must("sixteen weeks" in answer, f"the answer comes from the folder: {answer}")
        os.kill(server, 15)
        stopping = time.monotonic()
        must(process.wait(20) == 0, f"SIGTERM ends it with exit status 0, in {time.monotonic() - stopping:.1f} s")
    finally:
        if process.poll() is None:
            process.kill()
    must(trace.stat().st_size > 0 and not attempts(trace), f"attempts to leave the machine: {len(attempts(trace))}")


def within(server: int, image: Image, command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command in the namespaces and the file system of the server, as `docker exec` does."""
    variables = [f"{name}={value}" for name, value in {**image.environment, "HOME": image.home}.items()]
    enter = ["nsenter", "-t", str(server), "--mount", "--net", "--pid", "--root", "--wd"]
    return subprocess.run([*enter, "env", "-i", *variables, *command], capture_output=True, text=True, timeout=60)


def child_of(parent: int) -> int | None:
    """Return the process below `unshare`, once it is the server."""
    for path in Path(f"/proc/{parent}/task/{parent}").glob("children"):
        for child in map(int, path.read_text().split()):
            if b"cloister" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[1]:
                return child
    return None


def uid_of(process: int) -> str:
    status = Path(f"/proc/{process}/status").read_text()
    line = re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)
    return f"uid {line[1]}" if line else "?"


def _until(condition: Callable[[], _T | None], what: str) -> _T:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while (value := condition()) is None:
        if time.monotonic() > deadline:
            raise ProofError(f"not within {_START_TIMEOUT_S:g} s: {what}")
        time.sleep(0.2)
    return value


def must(holds: bool, what: str) -> None:
    if not holds:
        raise ProofError(what)
    say(f"holds: {what}")


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the stages are built and kept")
    parser.add_argument("--skip-build", action="store_true", help="run the image in that folder")
    options = parser.parse_args()
    if options.skip_build and not options.folder:
        parser.error("--skip-build needs --folder")
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        try:
            image = Builder(folder, proof.ROOT, paths_for_pip(), options.skip_build).build(
                read_dockerfile((proof.ROOT / "Dockerfile").read_text())
            )
            size = int(subprocess.run(["du", "-sm", image.root], capture_output=True, text=True).stdout.split()[0])
            say(f"{size:,} MB" if options.skip_build else f"built in {time.monotonic() - started:.0f} s, {size:,} MB")
            prove(image, Path(scratch))
        except ProofError as error:
            say(f"FAILED: {error}")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
