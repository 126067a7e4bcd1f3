"""The name of a run: it begins readably and ends in a hash of everything that decides what the run does."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

FAMILIES = ("task", "regime", "controller")


def run_id_of(spec: Mapping[str, Any]) -> str:
    """Return the id of a stored spec, whatever version wrote it and wherever its classes are.

    Raises:
        KeyError, TypeError: If it is no spec of a run.
    """
    names = "-".join((*(spec[family]["name"] for family in FAMILIES), f"s{spec['seed']}"))
    plain = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', names)}-{hashlib.sha256(plain.encode()).hexdigest()[:10]}"
