"""A child process that answers lines of JSON: with a time limit, and ended with its owner."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

WORKER = Path(__file__).with_name("legacy_worker.py")

TAIL = 3000
"""Characters of the child's error output that an error shows."""


class LegacyProcess:
    """Runs `legacy_worker.py` under another interpreter, in an empty folder of its own.

    The interpreter is isolated (``-I``): neither PYTHONPATH nor the folder of the script, where there are modules of
    this package, can stand in for what its environment has.

    Args:
        python: The interpreter.
        timeout: Seconds that one answer may take.
        worker: The script.
    """

    def __init__(self, python: str, timeout: float, worker: Path = WORKER) -> None:
        self._timeout = timeout
        folder = tempfile.TemporaryDirectory(prefix="autotunenet-1-0-2-", ignore_cleanup_errors=True)
        self._errors = Path(folder.name, "stderr.txt")  # a file, as a pipe that nobody reads would fill up
        with self._errors.open("wb") as errors:
            self._child = subprocess.Popen(
                [python, "-I", str(worker.resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder.name,  # the package makes a folder of logs wherever it is imported
                text=True,
                encoding="utf-8",
            )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(self._child.stdout, self._answers), daemon=True).start()
        self._end = weakref.finalize(self, _end, self._child, folder)  # also at the end of this process

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            RuntimeError: If the child fails, ends or takes too long; it is ended then.
        """
        try:
            assert self._child.stdin is not None
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
            line = self._answers.get(timeout=self._timeout)
        except queue.Empty:
            self._fail(
                f"has given no answer for {self._timeout:g} seconds; raise the key timeout, or look at its errors"
            )
        except (OSError, ValueError):  # its input is closed
            self._fail("has ended")
        if not line:
            self._fail("has ended")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            self._fail(f"has answered what is no JSON: {line[:200]!r}")
        if "error" in answer:
            self._fail(f"failed:\n{answer['error']}")
        return answer

    def _fail(self, what: str) -> NoReturn:
        try:
            errors = self._errors.read_text(encoding="utf-8", errors="replace")[-TAIL:].strip()
        except OSError:
            errors = ""
        self.close()
        raise RuntimeError(f"the process of autotunenet 1.0.2 {what}\nits error output: {errors or '(none)'}")

    @property
    def is_running(self) -> bool:
        """Whether the child lives."""
        return self._child.poll() is None

    def close(self) -> None:
        """End the child and remove its folder; twice is as good as once."""
        self._end()


def _read(stream: IO[str], answers: queue.Queue[str]) -> None:
    """Put every line into the queue, and an empty one at the end."""
    for line in stream:
        answers.put(line)
    answers.put("")
    stream.close()


def _end(child: subprocess.Popen[str], folder: tempfile.TemporaryDirectory[str]) -> None:
    child.kill()  # it has nothing to save
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
    child.wait()
    folder.cleanup()
