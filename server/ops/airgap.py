"""The ten statements of docs/air-gap.md, proved on this machine: for `cloister doctor --air-gap`.

A trial run in a namespace without a network, with an empty environment, a home of its own and no name server shows five
of them; the kernel counts what found no way out, and strace, where it is installed, what named another machine. The
others are read off the files that are installed.
"""

import base64
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.catalog import resolve_embedding
from models.errors import ModelError
from server.errors import SettingsError
from server.ops.diagnosis import Finding, licences, packages, pages, pins, telemetry
from server.ops.trial import Trial
from server.resources.chat_models import resolve_chat_models
from server.settings.settings import Settings

_ROOT = Path(__file__).parents[2]
_INSIDE = (
    'ip link set lo up 2>/dev/null || ifconfig lo up; mount --bind /dev/null /etc/resolv.conf 2>/dev/null; "$@";'
    " status=$?; cat /proc/net/snmp /proc/net/snmp6; exit $status"
)
_NAMESPACE = ("unshare", "-rnm", "sh", "-c", _INSIDE, "sh")
_SHOWN = "unshare -rn sh -c 'ip link set lo up; exec env -i PATH=$PATH HOME=/tmp/new .venv/bin/cloister serve'"
_ASKS_OTHERS = ("httpx2", "urllib.request", "http.client", "requests")
# Who of ours can ask another machine: `cloister models pull`, and what asks the server that is named to it.
_MAY_ASK = {"fetching.py", "connection.py", "ask.py", "bench.py", "collections.py", "eval.py", "status.py", "trial.py"}
_MAY_ASK |= {"stdio.py"}
_TRIAL_S = 400.0
_TRACED = "connect,sendto,sendmsg,sendmmsg"
_NAME_SERVER = re.compile(r"sin6?_port=htons\(53\)")
_ADDRESS = re.compile(r'sa_family=AF_INET6?,.*?(?:inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)")')


class IsolatedRun(NamedTuple):
    """`attempts`: packets without a route, and calls that named another machine, None without strace."""

    trial: Trial
    num_unrouted: int
    num_calls: int | None

    @property
    def summary(self) -> str:
        calls = "strace is not installed" if self.num_calls is None else f"{self.num_calls} calls by strace"
        return f"{self.num_unrouted} packets without a route; {calls}"


def statements(settings: Settings) -> Iterator[Finding]:
    """The ten, in their order."""
    yield _number_finding(1, "everything is here", _here(settings))
    yield _number_finding(2, "it is what was made", _verify_packages())
    isolated = _run_isolated()
    yield _number_finding(3, "no attempt to reach another machine", _attempts_finding(isolated))
    yield _number_finding(4, "not by the environment", _trial_finding(isolated, "started with an empty environment"))
    yield _number_finding(5, "nothing reports its users", next(telemetry(settings)))
    yield _number_finding(6, "pages load nothing from elsewhere", next(pages(settings)))
    yield _number_finding(
        7, "nothing is fetched when it is first needed", _trial_finding(isolated, "indexed and answered anew")
    )
    yield _number_finding(8, "it looks for no newer version", _network_imports())
    yield _number_finding(
        9, "it needs no name server and no route", _trial_finding(isolated, "answered without either")
    )
    yield _number_finding(10, "every part has its licence", next(licences(settings)))


def _number_finding(number: int, name: str, finding: Finding) -> Finding:
    return msgspec.structs.replace(finding, name=f"{number:2} {name}")


def _here(settings: Settings) -> Finding:
    shown_by = "cloister models verify; .venv/bin/python -m pip list"
    try:
        chat = resolve_chat_models(settings)
        resolve_embedding(settings.embedder)
    except (ModelError, SettingsError) as error:
        return Finding("failure", "", str(error), shown_by)
    finding = next(packages(settings))
    summary = f"{len(pins())} packages, {finding.found}; {len(chat.configured)} chat models and the embedder"
    return msgspec.structs.replace(finding, found=summary, shown_by=shown_by)


def _verify_packages() -> Finding:
    """Every file of every package against the hash in its RECORD (PEP 376, PEP 627)."""
    shown_by = "sha256sum FILE, beside the RECORD of its package in site-packages/NAME.dist-info"
    altered, num_files = list[str](), 0
    for name, _ in pins():
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # that it is missing is statement 1
        for file in files:
            if file.hash is not None and file.suffix != ".pyc":
                num_files += 1
                if not _is_as_recorded(Path(str(file.locate())), file.hash.mode, file.hash.value):
                    altered.append(str(file))
    if altered:
        return Finding(
            "failure", "", f"altered or gone: {', '.join(altered[:5])}", shown_by, "install the bundle again"
        )
    return Finding("ok", "", f"{num_files:,} files are what their packages say", shown_by)


def _is_as_recorded(path: Path, algorithm: str, wanted: str) -> bool:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).digest()
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == wanted


def _run_isolated() -> IsolatedRun | str:
    """A trial without a network; or why there is none."""
    if subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        return "this machine allows no network namespace (unshare -rn): see the command"
    with tempfile.TemporaryDirectory(prefix="cloister-trial-") as name:
        folder, trace = Path(name), Path(name) / "trace"
        watched = strace(trace) if shutil.which("strace") else ()
        empty = ["env", "-i", f"PATH={os.defpath}", f"HOME={folder}", f"PYTHONPATH={_ROOT}"]
        command = [*_NAMESPACE, *watched, *empty, sys.executable, "-P", "-m", "server.ops.trial", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TRIAL_S, cwd=folder, check=False)
        except subprocess.TimeoutExpired:
            return f"the trial run did not end within {_TRIAL_S:.0f} s"
        output, _, counters = done.stdout.partition("\n")
        try:
            trial = msgspec.json.decode(output, type=Trial)
        except msgspec.DecodeError:
            return (done.stderr.strip().splitlines() or ["the trial run printed nothing"])[-1]
        num_calls = len(attempts(trace)) if watched else None
        return IsolatedRun(trial, num_unrouted(counters), num_calls)


def num_unrouted(counters: str) -> int:
    """Packets for which there was no route, of /proc/net/snmp and snmp6 (RFC 1213, ipOutNoRoutes)."""
    lines = [line.split() for line in counters.splitlines() if line.startswith("Ip:")]
    known: Mapping[str, str] = dict(zip(*lines, strict=True)) if len(lines) == 2 else {}
    others = [line.split()[1] for line in counters.splitlines() if line.startswith("Ip6OutNoRoutes")]
    return int(known.get("OutNoRoutes", "0")) + sum(map(int, others))


def strace(trace: Path) -> tuple[str, ...]:
    """What goes before a command to note its calls to the network in `trace`. -D: the traced program keeps the process
    id that was started, and gets the signals sent to it."""
    return ("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={_TRACED}", "-o", str(trace))


def attempts(trace: Path) -> list[str]:
    """Calls that name an address off this machine, or a name server, which asks others."""
    found = []
    for line in trace.read_text(errors="replace").splitlines():
        if address := _ADDRESS.search(line):
            host = address[1] or address[2]
            if not (host.startswith("127.") or host == "::1") or _NAME_SERVER.search(line):
                found.append(line)
        elif "systemd/resolve" in line:
            found.append(line)
    return found


def _attempts_finding(isolated: IsolatedRun | str) -> Finding:
    if isinstance(isolated, str):
        return Finding("warning", "", isolated, _SHOWN)
    tried = isolated.num_unrouted or isolated.num_calls
    advice = "this should not be: SECURITY.md says whom to tell" if tried else ""
    return Finding(
        "failure" if tried else "ok", "", isolated.summary, f"strace -f -e trace=connect,sendto {_SHOWN}", advice
    )


def _trial_finding(isolated: IsolatedRun | str, what: str) -> Finding:
    if isinstance(isolated, str):
        return Finding("warning", "", isolated, _SHOWN)
    if isolated.trial.trouble:
        return Finding("failure", "", isolated.trial.trouble, _SHOWN, "cloister doctor tells what is wrong")
    return Finding("ok", "", f"{what} in {isolated.trial.seconds} s", _SHOWN)


def _network_imports() -> Finding:
    """Check which of the project's files could make a request to another machine."""
    ours = [path for name in ("server", "models", "index") for path in (_ROOT / name).rglob("*.py")]
    asking = {path.name for path in ours if any(f"import {name}" in path.read_text() for name in _ASKS_OTHERS)}
    shown_by = f"grep -rlE 'import ({'|'.join(_ASKS_OTHERS)})' {_ROOT / 'server'} {_ROOT / 'models'} {_ROOT / 'index'}"
    if strangers := sorted(asking - _MAY_ASK):
        return Finding("failure", "", f"these may: {', '.join(strangers)}", shown_by)
    return Finding("ok", "", "only cloister models pull and bundle ask another machine", shown_by)
