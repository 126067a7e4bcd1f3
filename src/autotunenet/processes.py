"""Starting worker processes so that Ctrl-C, closed streams and unguarded scripts do them no harm."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar


class Worker(Protocol):
    """A process that speaks through a channel."""

    @property
    def process(self) -> BaseProcess:
        """The process."""
        ...

    @property
    def channel(self) -> Connection:
        """Our end of its channel."""
        ...


AnyWorker = TypeVar("AnyWorker", bound=Worker)


class Starter:
    """Starts processes that run one function.

    They are forked from a small server that has imported `preload` once, where the system has fork servers; a plain
    fork would copy the threads and locks of the caller.

    Args:
        environment: Variables that must be set before libraries are loaded, such as ``OMP_NUM_THREADS``.
        preload: Modules to import once, for all processes. Only the first call in the life of a process counts.
        needs_main: Whether the processes need the caller's main module. Without it a script may do without an
            ``if __name__ == "__main__"`` guard.
    """

    def __init__(self, environment: Mapping[str, str], preload: Sequence[str], needs_main: bool) -> None:
        self._environment = {**environment, "PYTHONPATH": _python_path()}
        self._needs_main = needs_main
        has_forkserver = "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if has_forkserver else "spawn")
        if has_forkserver:
            self._context.set_forkserver_preload(list(preload))
        open_standard_streams()

    def pipe(self) -> Any:
        """Return the two ends of a channel."""
        return self._context.Pipe()

    def start(self, target: Callable[..., None], args: tuple[Any, ...]) -> BaseProcess:
        """Return a running process. Workers inherit a blocked SIGINT, and must unblock it once they can bear it."""
        process: BaseProcess = self._context.Process(target=target, args=args)
        with ExitStack() as stack:
            stack.enter_context(variables_set(self._environment))
            stack.enter_context(_blocked_interrupts())
            if not self._needs_main:
                stack.enter_context(_hidden_main())
            process.start()
        return process


def refers_to_main(*values: Any) -> bool:
    """Return whether a process that unpickles the values needs the caller's main module.

    Raises:
        TypeError, AttributeError, pickle.PicklingError: If a value cannot be pickled.

    >>> refers_to_main(len, {"lr": 0.1})
    False
    """
    return b"__main__" in pickle.dumps(values)


def describe_exit(exitcode: int | None) -> str:
    """Return in words how a process ended.

    >>> describe_exit(-9)
    'was killed by SIGKILL (often the system does this when memory runs out)'
    >>> describe_exit(3)
    'ended with exit code 3'
    """
    if exitcode is None or exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hints = {
        "SIGKILL": " (often the system does this when memory runs out)",
        "SIGSEGV": " (a crash in compiled code)",
        "SIGBUS": " (a crash in compiled code, or shared memory ran out)",
        "SIGABRT": " (a crash in compiled code)",
    }
    return f"was killed by {name}{hints.get(name, '')}"


def open_standard_streams() -> None:
    """Open the null device where stdin, stdout or stderr is closed, lest a pipe take its number and be lost with it."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number, which is this one


def end_processes(processes: Sequence[BaseProcess], grace_seconds: float) -> None:
    """Wait until processes that were told to end, or have ended, are gone; kill those that take too long."""
    deadline = time.monotonic() + grace_seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def hear(
    workers: Sequence[AnyWorker], interrupted: Connection, timeout: float | None = None
) -> Iterator[tuple[AnyWorker, list[Any], bool]]:
    """Wait until something happens, and yield what each worker has sent, and whether it has ended.

    Args:
        workers: Those to listen to.
        interrupted: From `interrupts`.
        timeout: Seconds after which to go on though nothing has happened; None: never.

    Raises:
        KeyboardInterrupt: If Ctrl-C was pressed.
    """
    channels: list[Any] = [worker.channel for worker in workers]
    sentinels = [worker.process.sentinel for worker in workers]
    ready = connection.wait([*channels, *sentinels, interrupted], timeout=timeout)
    if interrupted in ready:
        raise KeyboardInterrupt
    for worker, sentinel in list(zip(workers, sentinels, strict=True)):
        messages, is_closed = receive(worker.channel)  # of one that has ended too: what it had sent before counts
        yield worker, messages, is_closed or sentinel in ready


def receive(channel: Connection) -> tuple[list[Any], bool]:
    """Return what was sent, and whether that is all that will ever be."""
    messages: list[Any] = []
    try:
        while channel.poll():
            messages.append(channel.recv())
    except (EOFError, OSError):
        return messages, True
    return messages, False


def trim_memory() -> None:
    """Give memory that is free inside this process back to the system, where the C library can (glibc).

    A process that has freed gigabytes else keeps most of them, and the next to want them finds none.
    """
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or Windows, where None names none
        return
    trim(0)


@contextmanager
def interrupts() -> Iterator[Connection]:
    """Give a connection that becomes readable at Ctrl-C, in place of an exception at an arbitrary line.

    So a second Ctrl-C cannot cut the cleanup after the first one short. In a thread, or where Ctrl-C has another
    meaning, handlers stay as they are.
    """
    receiver, sender = connection.Pipe(duplex=False)
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    pid = os.getpid()

    def on_interrupt(number: int, frame: object) -> None:
        if os.getpid() == pid and not receiver.poll():  # once is enough: the pipe must not fill up
            sender.send_bytes(b"!")

    if is_ours:
        signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield receiver
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        receiver.close()
        sender.close()


def obey_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it does; what a worker process does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked while this process was made
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()


def summarize(error: BaseException) -> str:
    r"""Return an exception in one line.

    >>> summarize(ValueError("lr = -1.0, but must be > 0\nsee the docs"))
    'ValueError: lr = -1.0, but must be > 0'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _end_with_parent() -> None:
    """Wait until the parent is gone, however it went, and end at once: no more than the work in progress is lost."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _python_path() -> str:
    # Fork servers before Python 3.12 do not take over sys.path, and could not preload a copy that is not installed.
    here = str(Path(__file__).parent.parent)
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))


@contextmanager
def variables_set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while in here, also for processes that are started."""
    saved = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _blocked_interrupts() -> Iterator[None]:
    """Block SIGINT: a Ctrl-C in the seconds in which a child imports its modules would end it with a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it unblocks SIGINT when it starts: have that behind us
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Hide the main module, which new processes would otherwise import, and so run again if it has no guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
