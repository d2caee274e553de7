"""Limits for processes that parse untrusted files: memory, time, files, the network.

Resource limits hold on every system. On Linux a seccomp filter of system calls is added, and, where it is allowed, a
network namespace without interfaces. Children inherit all of it, and none of it can be taken back.
"""

import ctypes
import math
import platform
import resource
import signal
import struct
import sys

import msgspec

_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF: ld [k]; jeq k; jge k; ret k
_X32 = 0x40000000  # the bit of x86-64's second numbering of calls

# Per machine: its AUDIT_ARCH, and the numbers of the calls to refuse. They open sockets, start programs, reach other
# processes, change names of files, or lead around such a filter.
_REFUSED = {
    "x86_64": (
        0xC000003E,
        # socket connect bind listen | execve execveat | ptrace process_vm_readv/writev kill pidfd_send_signal |
        # rename* mkdir* rmdir creat link* unlink* symlink* truncate chmod* chown* mknod* utime* |
        # io_uring bpf perf keyctl
        (41, 42, 49, 50, 59, 322, 101, 310, 311, 62, 424, 82, 264, 316, 83, 258, 84, 85, 86, 265, 87, 263, 88, 266,
         76, 90, 91, 268, 92, 93, 94, 260, 133, 259, 132, 235, 261, 280, 425, 321, 298, 250),
    ),
    "aarch64": (
        0xC00000B7,
        (198, 203, 200, 201, 221, 281, 117, 270, 271, 129, 424, 38, 276, 34, 37, 35, 36, 45, 52, 53, 54, 55, 33, 88,
         425, 280, 241, 219),
    ),
}  # fmt: skip


class ReadingLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits for reading one file."""

    memory_bytes: int = 1 << 30  # address space
    cpu_s: int = 60
    wall_s: float = 120
    result_bytes: int = 32 << 20  # or four times the file, whichever is more

    def max_result_bytes(self, file_bytes: int) -> int:
        """Return the size of the largest result that is taken for a file of this size."""
        return max(self.result_bytes, 4 * file_bytes)


def confine_process() -> None:
    """Confine the process that forks the readers, and all its children.

    It must have one thread, and have imported all that the readers need.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)  # where this is not allowed, the filter refuses sockets anyway
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _refuse_calls(libc)


def _refuse_calls(libc: ctypes.CDLL) -> None:
    """Make the calls of `_REFUSED`, and all calls of another architecture, fail with EPERM."""
    if platform.machine() not in _REFUSED:
        return
    architecture, numbers = _REFUSED[platform.machine()]
    refuse = len(numbers) + 2  # the index of the last instruction but one, counted from the first comparison
    steps = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, 0)]
    checks = [(_IF_AT_LEAST, _X32), *((_IF_EQUAL, number) for number in numbers)]
    steps += [(code, refuse - at - 1, 0, value) for at, (code, value) in enumerate(checks)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)


def limit_child(limits: ReadingLimits, num_descriptors: int) -> None:
    """Set the limits of a child before it parses a file. Exceeding one ends the child, or is an error within it."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.wall_s)  # ends the child inside native code too
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = math.ceil(used.ru_utime + used.ru_stime) + limits.cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_descriptors, num_descriptors))
    if sys.platform != "darwin":  # which does not count address space
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))


def stop_timer() -> None:
    """Stop the wall-clock limit between two files, so that waiting does not count as reading."""
    signal.setitimer(signal.ITIMER_REAL, 0)
