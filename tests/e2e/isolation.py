"""A machine without a network, and witnesses of whatever tries to leave it all the same."""

import re
import shutil
import subprocess
from pathlib import Path

NO_NETWORK = ("unshare", "-rn", "sh", "-c", 'ip link set lo up 2>/dev/null || ifconfig lo up; exec "$@"', "sh")
_TRACED = "connect,sendto,sendmsg,sendmmsg"
_NAME_SERVER = re.compile(r"sin6?_port=htons\(53\)")
_ADDRESS = re.compile(r'sa_family=AF_INET6?,.*?(?:inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)")')


def can_isolate() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode == 0


def strace(trace: Path) -> tuple[str, ...]:
    """-D: the traced program keeps the process id that was started, and gets the signals sent to it."""
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
