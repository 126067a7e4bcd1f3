"""Classes of the user's own, named in a config as ``module:Class``.

Such a module is imported where a config, a stored spec that is to run, or ``check`` names it, and never otherwise: a
report reads names and digests only.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"
"""What a reference looks like; also for JSON schemas."""

NUM_SHOWN = 3
"""Folders and classes that a message names before it counts the rest."""

_more_folders: list[str] = []

_may_import: ContextVar[bool] = ContextVar("may_import", default=True)


class ClassNotFoundError(ValueError):
    """A reference leads to nothing that can be used.

    Attributes:
        rule: What is wrong.
        mend: What to do about it; may be empty.
    """

    def __init__(self, rule: str, mend: str = "") -> None:
        self.rule, self.mend = rule, mend
        super().__init__(f"{rule}{'; ' if mend else ''}{mend}")


def look_also_in(folder: Path) -> None:
    """Have modules looked for in a folder too, first of all, as ``python -m`` does it with the current one.

    The path of the process changes with the first reference that is imported, and not before: a file of the folder must
    not stand in for a module of ours where nobody has asked for it.
    """
    if str(folder) not in _more_folders:
        _more_folders.append(str(folder))


@contextmanager
def importing_nothing() -> Iterator[None]:
    """Refuse, while in here, to import a module for a reference; one that this process has imported already is used.

    For whatever comes out of a folder of results: it may be somebody else's, and must not run their code.

    >>> with importing_nothing():
    ...     import_class("antigravity:Escape")
    Traceback (most recent call last):
    autotunenet_bench.references.ClassNotFoundError: the module antigravity is not imported for what a results folder...
    """
    before = _may_import.set(False)
    try:
        yield
    finally:
        _may_import.reset(before)


def is_reference(name: Any) -> bool:
    """Return whether a name is meant as ``module:Class``.

    >>> is_reference("my_methods:HalveOnRise"), is_reference("cosine")
    (True, False)
    """
    return isinstance(name, str) and ":" in name


def reference_to(cls: type) -> str:
    """Return the reference that leads to a class.

    >>> reference_to(Path)
    'pathlib:Path'
    """
    # Worker processes have the main module of their parent under another name.
    module = "__main__" if cls.__module__ == "__mp_main__" else cls.__module__
    return f"{module}:{cls.__qualname__}"


def import_class(reference: str) -> type:
    """Import a module and return the class in it.

    Raises:
        ClassNotFoundError: If there is no such module or class, or the module cannot be imported.

    >>> import_class("collections:OrderedDict").__name__
    'OrderedDict'
    """
    if not re.fullmatch(PATTERN, reference):
        raise ClassNotFoundError("is no name of a class", "write module:Class, such as my_methods:HalveOnRise")
    module_name, _, path = reference.partition(":")
    found: Any = _import(module_name)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise ClassNotFoundError(f"the module {module_name} has no class {path}", _near_classes(module_name, path))
    return found


def source_digest(cls: type) -> str | None:
    """Return the SHA-256 of the file that a class is defined in; None where there is no file, as in a notebook."""
    path = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return digest_of(Path(path)) if path else None


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def find_source(reference: str) -> Path | None:
    """Return the file of a reference's module without importing anything; None where there is none.

    >>> find_source("json.decoder:JSONDecoder").name
    'decoder.py'
    """
    if not re.fullmatch(PATTERN, reference):
        return None
    importlib.invalidate_caches()
    top, *below = reference.partition(":")[0].split(".")
    spec = PathFinder.find_spec(top, _more_folders) or _find_spec(top)
    if spec is None:
        return None
    if not below:
        return Path(spec.origin) if spec.origin and spec.has_location else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *below)
        for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def _find_spec(top: str) -> ModuleSpec | None:
    # Not importlib.util.find_spec, which takes what is in sys.modules for what is on the disk.
    found = (finder.find_spec(top, None) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)


def _import(name: str) -> Any:
    if not _may_import.get() and name not in sys.modules:
        raise ClassNotFoundError(
            f"the module {name} is not imported for what a results folder says, which would run its code",
            "if the folder and the module are yours, run its config again: what is finished is not done again",
        )
    sys.path[:0] = [folder for folder in _more_folders if folder not in sys.path and not _is_safe_path()]
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ClassNotFoundError(f"there is no module {error.name} in {_folders()}", _near_modules(name)) from error
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:  # it is anybody's code
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> ClassNotFoundError:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    is_own = len(frames) > 2 and not isinstance(error, SyntaxError)  # beyond this file and importlib
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if is_own else ""
    words = f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
    return ClassNotFoundError(f"the module {name} cannot be imported: {words}", f"mend it until `import {name}` works")


def _is_safe_path() -> bool:
    return bool(getattr(sys.flags, "safe_path", False))  # python -P, from 3.11 on


def _folders() -> str:
    folders = [folder or str(Path.cwd()) for folder in sys.path]
    rest = len(folders) - NUM_SHOWN
    return f"{', '.join(folders[:NUM_SHOWN])}{f' and {rest} more folders of sys.path' if rest > 0 else ''}"


def _near_modules(name: str) -> str:
    here = [module.name for module in pkgutil.iter_modules([sys.path[0] or "."])]
    near = difflib.get_close_matches(name.partition(".")[0], here, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}run in the folder of the module, or name its folder in PYTHONPATH"


def _near_classes(module_name: str, path: str) -> str:
    module = sys.modules[module_name]
    own = [name for name, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module_name]
    near = difflib.get_close_matches(path, own, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = f"{', '.join(own[:NUM_SHOWN])}{' and others' if len(own) > NUM_SHOWN else ''}"
    return f"{hint}its classes are {shown}" if own else f"{hint}it defines no class"
