"""Settings of the whole test run."""

import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

# Slow machines are no bug, and the same examples every time make a failure one that everybody sees.
settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.register_profile("thorough", parent=settings.get_profile("default"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True, scope="session")
def _heed_interrupts():
    """A shell that runs tests in the background has them, and what they start, ignore Ctrl-C, which some send."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors only: more threads would cost more than they bring, and workers run side by side."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk():
    """It matters where the system ends, which no test brings about; a short run would mostly wait."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", os.fstat)  # of a closed file that fails, too
        yield


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Decoded data of tests do not go into the user's cache."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AUTOTUNENET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """A data directory with a small CIFAR-10, a small IMDB and two small parts of GLUE."""
    import small_data

    root = tmp_path_factory.mktemp("data")
    small_data.write_cifar10(root)
    small_data.write_imdb(root)
    small_data.write_glue(root)
    return root


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """A folder with a BERT of two layers and random weights, and its tokenizer, in the Hub's layout."""
    import tiny_models

    return tiny_models.write_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(autouse=True, scope="session")
def _first_path():
    """Where modules are looked for when the first test begins."""
    return sys.path[:]


@pytest.fixture(autouse=True)
def _own_path(_first_path, monkeypatch):
    """The command line looks for modules where it is called, too; calls in this process are not to leave that."""
    references = sys.modules.get("autotunenet_bench.references")
    if references is not None:
        monkeypatch.setattr(references, "_more_folders", [])
    sys.path[:] = _first_path
    yield
    sys.path[:] = _first_path


@pytest.fixture
def warn_always():
    """Torch warns of most things once a process only."""
    import torch

    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)
