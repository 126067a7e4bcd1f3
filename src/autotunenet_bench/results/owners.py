"""Who holds a claim: a process, named so that others can tell for certain that it is gone, where that can be told."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds a claim.

    Attributes:
        host: Name of its machine, for people.
        world: Where its process id means something: one boot of one machine, one namespace of process ids. Empty where
            the system does not tell.
        pid: Its process id there.
        started: When it began, in the system's own ticks, which tells it from a later process with the same id. Empty
            where the system does not tell.
        token: Of this one claim; no other has it.
    """

    host: str
    world: str
    pid: int
    started: str
    token: str

    @classmethod
    def of_this_process(cls) -> Owner:
        """Return this process, with a new token."""
        pid = os.getpid()
        return cls(socket.gethostname(), _world(), pid, process_start(pid), uuid.uuid4().hex)

    @classmethod
    def from_json(cls, line: bytes) -> Owner | None:
        """Return what `to_json` wrote; None where it is anything else, such as half of it."""
        try:
            values = json.loads(line)
            owner = cls(**values)
        except (TypeError, ValueError):
            return None
        kinds = {field.name: int if field.name == "pid" else str for field in fields(cls)}
        return owner if all(isinstance(getattr(owner, name), kind) for name, kind in kinds.items()) else None

    def to_json(self) -> str:
        """Return it as one line of JSON, without the end of the line."""
        return json.dumps(asdict(self))

    def is_gone(self) -> bool:
        """Whether the process is known to have ended.

        False says nothing: the process may be on another machine, or the system may not tell.
        """
        if not self.world or self.world != _world():
            return False
        if self.started:
            return process_start(self.pid) != self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it is another user's, so there is one
            return False
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def process_start(pid: int) -> str:
    """Return when a process of this machine began, in ticks since the boot; empty where there is none, or no telling.

    A process that is dead and not yet collected by its parent counts as none.

    >>> process_start(os.getpid()) == process_start(os.getpid()), process_start(2**30)
    (True, '')
    """
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no such process, or no /proc
        return ""
    state, *rest = text.rpartition(")")[2].split()  # the name before may hold spaces and brackets
    return "" if state in "ZX" else rest[18]  # field 22 of the line, see man 5 proc


@cache
def _world() -> str:
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink(PROC / 'self/ns/pid')}"
    except OSError:  # not Linux
        # On Windows nothing can be asked: os.kill would end the process.
        return f"{socket.gethostname()}/{uuid.getnode():x}" if os.name == "posix" else ""
