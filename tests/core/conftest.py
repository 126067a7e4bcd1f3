"""Fixtures of the core's tests."""

import tempfile
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def fast_path():
    """A folder in memory, where there is one: thousands of rows are brought to the disk."""
    with tempfile.TemporaryDirectory(prefix="autotunenet-test-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)
