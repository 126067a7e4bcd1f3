"""The cache of decoded arrays: round trips, builders at once, crashes at every moment, damage, a full disk."""

import hashlib
import json
import logging
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from autotunenet.files import FolderInUseError, locked
from autotunenet_bench.data import cache
from autotunenet_bench.data.cache import cache_dir, cached_arrays

KEY = {"files": ["abc"], "decoder": 1}


@pytest.fixture(name="root", autouse=True)
def root_fixture(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNENET_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_warned", set())
    return tmp_path / "cache"


def arrays(size=1000):
    return {"images": np.arange(size, dtype=np.int32).reshape(-1, 10), "labels": np.arange(size // 10, dtype=np.uint8)}


def never():
    raise AssertionError("built again")


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def entries(root):
    return sorted(path.name for path in root.glob("*/*"))


def entry_of(root):
    (entry,) = root.iterdir()
    return entry / "arrays"


def in_child(work):
    """Do `work` in a process of its own; return how it ended, as `subprocess` tells it."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


# -- round trips -------------------------------------------------------------------------------------------------------


def test_what_was_built_is_mapped_from_then_on(root):
    for build in (arrays, never):
        found = cached_arrays("digits", KEY, build)
        assert_equal(found, arrays())
        assert all(isinstance(array.base, np.memmap) for array in found.values())
        with pytest.raises(ValueError, match="read-only"):
            found["labels"][0] = 1
    assert entries(root) == [".lock", "arrays"]
    assert entry_of(root).parent.name.startswith("digits-")


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9_][a-z0-9_-]{0,8}", fullmatch=True),
        npst.arrays(npst.scalar_dtypes() | npst.unicode_string_dtypes(), npst.array_shapes(min_dims=0, min_side=0)),
        max_size=3,
    ),
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text() | st.lists(st.integers()), max_size=3),
)
def test_any_arrays_come_back_bit_for_bit(tmp_path_factory, made, key):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AUTOTUNENET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        for build in (lambda: made, never):
            found = cached_arrays("any", key, build)
            assert list(found) == list(made)
            for name, array in made.items():
                assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
                assert found[name].tobytes() == array.tobytes()


def test_another_key_is_another_entry_and_the_order_of_a_key_is_none(root):
    cached_arrays("a", {"x": 1, "y": 2}, arrays)
    cached_arrays("a", {"y": 2, "x": 1}, never)
    for name, key in [("a", {"x": 1, "y": 3}), ("b", {"x": 1, "y": 2})]:
        assert_equal(cached_arrays(name, key, lambda: arrays(50)), arrays(50))
    assert len(list(root.iterdir())) == 3


def test_equal_arrays_make_equal_files(root):
    digests = []
    for _ in range(2):
        cached_arrays("a", KEY, arrays)
        files = sorted(entry_of(root).iterdir())
        digests.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
        for path in files:
            path.unlink()
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "A", ".lock", "-a"])
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(ValueError, match="a name in the cache is made of"):
        cached_arrays(name, KEY, arrays)
    with pytest.raises(ValueError, match="a name in the cache is made of"):
        cached_arrays("a", KEY, lambda: {name: np.zeros(1)})


def test_python_objects_are_never_pickled(root):
    with pytest.raises(ValueError, match="pickle"):
        cached_arrays("a", KEY, lambda: {"x": np.array([{}])})
    assert entries(root) == [".lock"]


def test_an_error_of_the_builder_is_the_callers_and_leaves_nothing(root):
    def fail():
        raise OSError("the source is torn")

    with pytest.raises(OSError, match="the source is torn"):
        cached_arrays("a", KEY, fail)
    assert entries(root) == [".lock"]
    assert_equal(cached_arrays("a", KEY, arrays), arrays())


# -- where -------------------------------------------------------------------------------------------------------------


def test_the_variable_beats_xdg_beats_the_home(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("AUTOTUNENET_CACHE_DIR", "~/mine")
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.setenv("AUTOTUNENET_CACHE_DIR", " ")
    assert cache_dir() == tmp_path / "xdg" / "autotunenet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / ".cache" / "autotunenet"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_dir() == tmp_path / "Library" / "Caches" / "autotunenet"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_dir() == tmp_path / "local" / "autotunenet" / "Cache"


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


DAMAGES = {
    "a byte": ("labels.npy", flip, "has the SHA-256"),
    "cut off": ("images.npy", lambda path: os.truncate(path, 100), "has 100 bytes instead of"),
    "a file gone": ("labels.npy", Path.unlink, "labels.npy"),
    "no manifest": ("manifest.json", Path.unlink, "manifest.json"),
    "a manifest cut off": ("manifest.json", lambda path: os.truncate(path, 20), "manifest.json cannot be read"),
    "no manifest at all": ("manifest.json", lambda path: path.write_text("[]"), "manifest.json cannot be read"),
    "of another key": ("manifest.json", lambda path: path.write_text('{"key": {}, "arrays": {}}'), "of another key"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_named_and_mended(root, caplog, damage):
    name, spoil, words = DAMAGES[damage]
    cached_arrays("a", KEY, arrays)
    spoil(entry_of(root) / name)
    with caplog.at_level(logging.WARNING):
        assert_equal(cached_arrays("a", KEY, arrays), arrays())
    (record,) = caplog.records
    assert words in record.getMessage()
    assert str(entry_of(root)) in record.getMessage()
    assert_equal(cached_arrays("a", KEY, never), arrays())
    assert entries(root) == [".lock", "arrays"]


def test_content_is_read_once_a_process_and_sizes_at_every_opening(root, monkeypatch):
    read = []
    sha256 = cache._sha256
    monkeypatch.setattr(cache, "_sha256", lambda path: read.append(path.name) or sha256(path))
    cached_arrays("a", KEY, arrays)
    read.clear()
    cached_arrays("a", KEY, never)
    assert read == []
    monkeypatch.setattr(cache, "_verified", set())  # as in another process
    cached_arrays("a", KEY, never)
    cached_arrays("a", KEY, never)
    assert sorted(read) == ["images.npy", "labels.npy"]


# -- a cache that is of no use -----------------------------------------------------------------------------------------


def assert_built_in_memory_with_one_warning(caplog, words):
    with caplog.at_level(logging.WARNING):
        for key in (KEY, {"other": 1}):
            found = cached_arrays("a", key, arrays)
            assert_equal(found, arrays())
            assert not found["images"].flags.writeable
    (record,) = caplog.records
    assert words in record.getMessage()
    assert "make room, make the folder writable, or name another one in AUTOTUNENET_CACHE_DIR" in record.getMessage()


def test_a_folder_that_cannot_be_made_costs_a_warning(root, caplog):
    root.write_text("a file")
    assert_built_in_memory_with_one_warning(caplog, str(root))


def test_a_user_without_a_home_is_no_error(monkeypatch, caplog):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("AUTOTUNENET_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert_built_in_memory_with_one_warning(caplog, "home directory")


@pytest.mark.slow
@pytest.mark.parametrize("room", [20, 200, 2000, 4127])  # the larger file has 128 + 4,000 bytes
def test_a_full_disk_costs_a_warning_and_leaves_nothing(root, caplog, room):
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        assert_built_in_memory_with_one_warning(caplog, "cannot be kept in the cache")
        assert entries(root) == [".lock", ".lock"]

    assert in_child(work) == 0
    assert_equal(cached_arrays("a", KEY, arrays), arrays())


@pytest.mark.slow
def test_a_read_only_folder_is_of_use_for_what_it_holds(monkeypatch, caplog):
    with tempfile.TemporaryDirectory() as folder:  # where another user may look into it
        os.chmod(folder, 0o755)
        monkeypatch.setenv("AUTOTUNENET_CACHE_DIR", folder)
        cached_arrays("held", KEY, arrays)

        def work():
            if os.geteuid() == 0:
                os.setuid(65534)  # root may write everywhere
            else:
                os.chmod(folder, 0o555)
            assert_equal(cached_arrays("held", KEY, never), arrays())
            assert_built_in_memory_with_one_warning(caplog, "Permission denied")

        assert in_child(work) == 0
        os.chmod(folder, 0o755)


# -- other processes ---------------------------------------------------------------------------------------------------


def test_whoever_does_not_wait_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(FolderInUseError), locked(tmp_path):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [False, True])
def test_builders_at_once_build_once(root, tmp_path, damaged):
    if damaged:
        cached_arrays("a", KEY, arrays)
        flip(entry_of(root) / "images.npy")
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)

    def build():
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.5)  # the others arrive
        return arrays()

    def work():
        barrier.wait(60)
        assert_equal(cached_arrays("a", KEY, build), arrays())

    processes = [context.Process(target=work) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert log.read_text() == "built\n"


def assert_a_killed_builder_does_no_harm(root):
    """Nothing or everything is there; the next one finds it, or builds, and cleans up."""
    whole = (entry_of(root)).exists() if root.exists() and list(root.iterdir()) else False
    assert_equal(cached_arrays("a", KEY, never if whole else arrays), arrays())
    assert entries(root) == [".lock", "arrays"]
    for path in entry_of(root).parent.iterdir():
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    return whole


@pytest.mark.slow
def test_a_builder_killed_at_any_line_does_no_harm(root):
    """Before every line of the writing in turn, so also between the syncing, the renaming and the next syncing."""
    wholes = []
    for last in range(1, 1000):

        def work(last=last):
            count = 0

            def trace(frame, event, argument):
                nonlocal count
                if frame.f_code.co_filename != cache.__file__:
                    return None
                count += event == "line" and frame.f_code.co_name in {"_write", "_sync_folder", "write"}
                if count == last:
                    os.kill(os.getpid(), signal.SIGKILL)
                return trace

            sys.settrace(trace)
            cached_arrays("a", KEY, arrays)

        if in_child(work) == 0:
            break
        wholes.append(assert_a_killed_builder_does_no_harm(root))
    assert len(wholes) > 20
    assert wholes == sorted(wholes)  # nothing, until it is everything
    assert {True, False} == set(wholes)


@pytest.mark.slow
def test_a_builder_killed_at_any_time_does_no_harm(root):
    big = {"images": np.arange(4_000_000), "labels": np.arange(10)}
    generator = random.Random(0)
    for _ in range(15):
        process = multiprocessing.get_context("fork").Process(target=cached_arrays, args=("a", KEY, lambda: big))
        process.start()
        time.sleep(generator.uniform(0.0, 0.3))
        process.kill()
        process.join(60)
        assert_equal(cached_arrays("a", KEY, lambda: big), big)
        assert entries(root) == [".lock", "arrays"]
        for file in entry_of(root).iterdir():
            file.unlink()
        entry_of(root).rmdir()


def test_the_manifest_tells_what_an_entry_is(root):
    cached_arrays("a", KEY, arrays)
    manifest = json.loads((entry_of(root) / "manifest.json").read_text())
    assert manifest["key"] == KEY
    assert manifest["format_version"] == 1
    assert manifest["arrays"]["labels"]["size"] == (entry_of(root) / "labels.npy").stat().st_size
