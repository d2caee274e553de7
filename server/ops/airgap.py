"""The ten statements of docs/air-gap.md, proved on this machine, for `cloister doctor --air-gap`.

Five of them follow from a trial run in a network namespace without a network, with an empty environment, an empty home
folder and no name server. The kernel counts packets that found no route, and strace, where it is installed, records
calls that named another machine. The other statements follow from the installed files.
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
from server.ops.finding import Finding
from server.ops.package_checks import licences, packages, pages, pins, telemetry
from server.ops.trial import Trial
from server.resources.chat_models import resolve_chat_models
from server.settings.settings import Settings

_ROOT = Path(__file__).parents[2]
_SETUP = (
    'ip link set lo up 2>/dev/null || ifconfig lo up; mount --bind /dev/null /etc/resolv.conf 2>/dev/null; "$@";'
    " status=$?; cat /proc/net/snmp /proc/net/snmp6; exit $status"
)
_NAMESPACE = ("unshare", "-rnm", "sh", "-c", _SETUP, "sh")
_COMMAND = "unshare -rn sh -c 'ip link set lo up; exec env -i PATH=$PATH HOME=/tmp/new .venv/bin/cloister serve'"
_HTTP_CLIENTS = ("httpx2", "urllib.request", "http.client", "requests")
# The project's files that may send requests: `cloister models pull`, and clients of a Cloister server.
_CLIENTS = {"fetching.py", "connection.py", "ask.py", "bench.py", "collections.py", "eval.py", "status.py", "trial.py"}
_CLIENTS |= {"stdio.py"}
_TRIAL_S = 400.0
_TRACED = "connect,sendto,sendmsg,sendmmsg"
_NAME_SERVER = re.compile(r"sin6?_port=htons\(53\)")
_ADDRESS = re.compile(r'sa_family=AF_INET6?,.*?(?:inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)")')


class IsolatedRun(NamedTuple):
    """A trial run without a network. `num_unrouted` counts packets without a route; `num_calls` counts calls that named
    another machine, None without strace."""

    trial: Trial
    num_unrouted: int
    num_calls: int | None

    @property
    def summary(self) -> str:
        calls = "strace is not installed" if self.num_calls is None else f"{self.num_calls} calls by strace"
        return f"{self.num_unrouted} packets without a route; {calls}"


def statements(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each of the ten statements, in their order."""
    yield _number_finding(1, "everything is here", _completeness(settings))
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


def _completeness(settings: Settings) -> Finding:
    command = "cloister models verify; .venv/bin/python -m pip list"
    try:
        chat = resolve_chat_models(settings)
        resolve_embedding(settings.embedder)
    except (ModelError, SettingsError) as error:
        return Finding("failure", "", str(error), command)
    finding = next(packages(settings))
    summary = f"{len(pins())} packages, {finding.found}; {len(chat.configured)} chat models and the embedder"
    return msgspec.structs.replace(finding, found=summary, shown_by=command)


def _verify_packages() -> Finding:
    """Compare every file of every package with the hash in its RECORD (PEP 376, PEP 627)."""
    command = "sha256sum FILE, beside the RECORD of its package in site-packages/NAME.dist-info"
    altered, num_files = list[str](), 0
    for name, _ in pins():
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # statement 1 reports that it is missing
        for file in files:
            if file.hash is not None and file.suffix != ".pyc":
                num_files += 1
                if not _is_as_recorded(Path(str(file.locate())), file.hash.mode, file.hash.value):
                    altered.append(str(file))
    if altered:
        return Finding("failure", "", f"altered or gone: {', '.join(altered[:5])}", command, "install the bundle again")
    return Finding("ok", "", f"{num_files:,} files are what their packages say", command)


def _is_as_recorded(path: Path, algorithm: str, expected: str) -> bool:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).digest()
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == expected


def _run_isolated() -> IsolatedRun | str:
    """Return a trial run without a network, or the reason why there is none."""
    if subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        return "this machine allows no network namespace (unshare -rn); run the command on one that does"
    with tempfile.TemporaryDirectory(prefix="cloister-trial-") as name:
        folder, trace = Path(name), Path(name) / "trace"
        tracer = strace(trace) if shutil.which("strace") else ()
        empty_environment = ["env", "-i", f"PATH={os.defpath}", f"HOME={folder}", f"PYTHONPATH={_ROOT}"]
        command = [
            *_NAMESPACE,
            *tracer,
            *empty_environment,
            sys.executable,
            "-P",
            "-m",
            "server.ops.trial",
            str(folder),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TRIAL_S, cwd=folder, check=False)
        except subprocess.TimeoutExpired:
            return f"the trial run did not end within {_TRIAL_S:.0f} s"
        output, _, counters = done.stdout.partition("\n")
        try:
            trial = msgspec.json.decode(output, type=Trial)
        except msgspec.DecodeError:
            return (done.stderr.strip().splitlines() or ["the trial run printed nothing"])[-1]
        num_calls = len(attempts(trace)) if tracer else None
        return IsolatedRun(trial, num_unrouted(counters), num_calls)


def num_unrouted(counters: str) -> int:
    """Return how many packets had no route. `counters` is /proc/net/snmp and snmp6 (RFC 1213, ipOutNoRoutes)."""
    lines = [line.split() for line in counters.splitlines() if line.startswith("Ip:")]
    ipv4: Mapping[str, str] = dict(zip(*lines, strict=True)) if len(lines) == 2 else {}
    ipv6 = [line.split()[1] for line in counters.splitlines() if line.startswith("Ip6OutNoRoutes")]
    return int(ipv4.get("OutNoRoutes", "0")) + sum(map(int, ipv6))


def strace(trace: Path) -> tuple[str, ...]:
    """Return the command prefix that records a program's network calls in the file `trace`.

    -D: the traced program keeps the process id that was started, and gets the signals sent to it.
    """
    return ("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={_TRACED}", "-o", str(trace))


def attempts(trace: Path) -> list[str]:
    """Return the recorded calls that name an address of another machine, or a name server, which asks others."""
    calls = []
    for line in trace.read_text(errors="replace").splitlines():
        if address := _ADDRESS.search(line):
            host = address[1] or address[2]
            if not (host.startswith("127.") or host == "::1") or _NAME_SERVER.search(line):
                calls.append(line)
        elif "systemd/resolve" in line:
            calls.append(line)
    return calls


def _attempts_finding(isolated: IsolatedRun | str) -> Finding:
    if isinstance(isolated, str):
        return Finding("warning", "", isolated, _COMMAND)
    num_attempts = isolated.num_unrouted or isolated.num_calls
    advice = "this is a defect; report it as SECURITY.md says" if num_attempts else ""
    return Finding(
        "failure" if num_attempts else "ok",
        "",
        isolated.summary,
        f"strace -f -e trace=connect,sendto {_COMMAND}",
        advice,
    )


def _trial_finding(isolated: IsolatedRun | str, summary: str) -> Finding:
    if isinstance(isolated, str):
        return Finding("warning", "", isolated, _COMMAND)
    if isolated.trial.trouble:
        return Finding("failure", "", isolated.trial.trouble, _COMMAND, "find the cause: cloister doctor")
    return Finding("ok", "", f"{summary} in {isolated.trial.seconds} s", _COMMAND)


def _network_imports() -> Finding:
    """Check which of the project's files could make a request to another machine."""
    files = [path for name in ("server", "models", "index") for path in (_ROOT / name).rglob("*.py")]
    senders = {path.name for path in files if any(f"import {name}" in path.read_text() for name in _HTTP_CLIENTS)}
    command = f"grep -rlE 'import ({'|'.join(_HTTP_CLIENTS)})' {_ROOT / 'server'} {_ROOT / 'models'} {_ROOT / 'index'}"
    if unexpected := sorted(senders - _CLIENTS):
        return Finding("failure", "", f"these may: {', '.join(unexpected)}", command)
    return Finding("ok", "", "only cloister models pull and bundle ask another machine", command)
