"""Starts one program so that it ends with whoever started it: `python launch.py --signal N --parent PID [--user NAME] -- program args…`.

Run as a file, before anything is imported: it costs about 10 ms and is replaced by the program. It exists because `preexec_fn` is unsafe
in a process with threads. The program gets a session of its own, so that a Ctrl-C in the terminal reaches only the supervisor, which stops
its children in order.

PostgreSQL refuses to run as root: root gives `--user`. That user keeps one of root's capabilities, to pass folders that only root may enter
(a clone under /root, or in a folder made by mktemp): otherwise those folders would have to be opened to everybody.
"""

import ctypes
import os
import pwd
import sys

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2  # linux/prctl.h
_CAP_DAC_OVERRIDE = 1  # linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _become(libc: ctypes.CDLL | None, user: str) -> None:
    entry = pwd.getpwnam(user)
    if libc:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    if libc:
        # Where the kernel says no (a container without this capability), the folders must be open to the user: start() then says so.
        mask = 1 << _CAP_DAC_OVERRIDE
        libc.capset(ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION_3, 0)), (_CapabilityData * 2)(_CapabilityData(mask, mask, mask)))
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
    os.environ["HOME"] = entry.pw_dir


def end_with(parent: int, number: int) -> None:
    """Get that signal when the parent ends (Linux). A change of user would undo it: call it afterwards."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)  # it ended meanwhile: nobody would send the signal


def main(arguments: list[str]) -> None:
    split = arguments.index("--")
    options = dict(zip(arguments[:split:2], arguments[1:split:2], strict=True))
    program = arguments[split + 1 :]
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    os.setsid()
    if "--user" in options:
        _become(libc, options["--user"])
    end_with(int(options["--parent"]), int(options["--signal"]))
    os.execvp(program[0], program)  # noqa: S606  the program is the supervisor's own choice


if __name__ == "__main__":
    main(sys.argv[1:])
