"""The documentation says nothing that is not so: its examples run, and what it names is there."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [path for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md") for path in ROOT.glob(name)]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(r"autotunenet(_bench)?(\.\w+)+")
REPO_PATH = re.compile(r"(src|tests|docs|configs|constraints|\.ci)/[\w./-]*")
MACHINE_PATH = re.compile(r"(?<![\w.~/-])(/(home|root|tmp|work|usr|opt|mnt|var|Users)/\S*|[A-Z]:\\\w\S*)")
EVERY = re.compile(r"<!-- every: (\S+) -->\n((?:.+\n)+)")

# Runs the examples of one page as one module, so that a traceback names the page's own line. One that begins with the
# name of a file is written there instead, for the others to import.
DRIVER = """
import pathlib, re, sys, types
import torch
torch.set_num_threads(1)
page = sys.modules["page"] = types.ModuleType("page")
for line, source in {blocks!r}:
    if file := re.match(r"# (\\w+\\.py)\\n", source):
        pathlib.Path(file[1]).write_text(source, encoding="utf-8")
        continue
    exec(compile("\\n" * line + source, {name!r}, "exec", dont_inherit=True), page.__dict__)
"""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def examples(page: Path) -> list[tuple[int, str]]:
    """The page's python blocks, each with the number of lines above it."""
    text = text_of(page)
    return [(text.count("\n", 0, m.start(2)), m[2]) for m in FENCE.finditer(text) if m[1] == "python"]


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked to by: their words in small letters, with hyphens between."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def prose(page: Path) -> str:
    """The page without its blocks."""
    return FENCE.sub("", text_of(page))


def names_something(dotted: str) -> bool:
    """Whether a dotted name can be imported, or is an attribute or field of what can be."""
    module, names = dotted, []
    while True:
        try:
            found = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, name = module.rpartition(".")
            names.insert(0, name)
    for name in names:
        fields = {field.name for field in dataclasses.fields(found)} if dataclasses.is_dataclass(found) else set()
        fields |= set(getattr(found, "model_fields", {})) | set(getattr(found, "__annotations__", {}))
        if not hasattr(found, name):
            return name in fields and name == names[-1]
        found = getattr(found, name)
    return True


every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if examples(page)], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_examples_run(page, tmp_path):
    # In a process of their own: examples may register, print and write what they like.
    driver = DRIVER.format(blocks=examples(page), name=page.relative_to(ROOT).as_posix())
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:page", "-c", driver],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@every_page
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose(page)):
        if not target.startswith(("http://", "https://", "mailto:", "#")):
            path, _, anchor = target.partition("#")
            assert (page.parent / path).exists(), f"{page.name} links to {target}"
            if anchor and path.endswith(".md"):
                assert anchor in anchors(page.parent / path), f"{page.name}: no heading {target}"


@every_page
def test_names_and_paths_exist(page):
    for code in CODE.findall(prose(page)):
        if DOTTED.fullmatch(code.partition("(")[0]):
            assert names_something(code.partition("(")[0]), f"{page.name} names {code}"
        if REPO_PATH.fullmatch(code):  # a path with a placeholder, <name>, does not match
            assert (ROOT / code).exists(), f"{page.name} names {code}"
    for path in re.findall(r"\bconfigs/[\w/]+\.yaml", text_of(page)):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


@every_page
def test_pages_name_no_path_of_a_machine(page):
    assert not MACHINE_PATH.search(text_of(page).replace("/path/to/", "")), page.name


TABLES = [(page, registry, rows) for page in PAGES for registry, rows in EVERY.findall(text_of(page))]


@pytest.mark.parametrize(("page", "registry", "rows"), TABLES, ids=[registry for _, registry, _ in TABLES])
def test_a_list_of_all_members_has_them_all_and_no_other(page, registry, rows):
    module, _, name = registry.rpartition(".")
    listed = re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)
    assert sorted(listed) == sorted(getattr(importlib.import_module(module), name)), (
        f"{page.name}: the table of {registry}"
    )


@pytest.mark.parametrize("registry", ["metrics.METRICS", "tasks.TASKS", "regimes.REGIMES", "controllers.CONTROLLERS"])
def test_the_members_of_the_benchmark_are_listed(registry):
    assert f"autotunenet_bench.{registry}" in [name for _, name, _ in TABLES]


def test_every_page_is_in_the_navigation():
    navigation, start = text_of(ROOT / "mkdocs.yml"), text_of(ROOT / "docs" / "index.md")
    for page in (ROOT / "docs").glob("*.md"):
        assert f": {page.name}\n" in navigation, f"{page.name} is not in the nav of mkdocs.yml"
        if page.name != "index.md":
            assert f"]({page.name})" in start, f"docs/index.md does not lead to {page.name}"


GIVEN = {*sys.stdlib_module_names, "autotunenet", "autotunenet_bench", "torch", "numpy"}
COMES_WITH = {"sklearn": "scikit-learn", "pytorch_lightning": "lightning"}


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.name)
def test_what_a_page_imports_its_reader_was_told_to_install(page):
    """Who copies, pastes and runs has nothing but torch, numpy and what the page itself names."""
    source = "\n".join(code for _, code in examples(page))
    own = set(re.findall(r"^# (\w+)\.py$", source, re.MULTILINE))
    imported = {name.partition(".")[0] for name in re.findall(r"^\s*(?:from|import) ([\w.]+)", source, re.MULTILINE)}
    told = " ".join(re.findall(r"pip install ([^`\n]*)", text_of(page)))
    given = GIVEN | own | ({"pydantic"} if "autotunenet_bench" in imported else set())  # which the benchmark brings
    missing = {name for name in (COMES_WITH.get(name, name) for name in imported - given) if name not in told}
    assert not missing, f"{page.name} imports {missing}, and no 'pip install' on it names that"
