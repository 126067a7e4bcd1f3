"""No file that comes from elsewhere is run: what the source may call, and what it may not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCES = sorted(Path(__file__).resolve().parents[1].joinpath("src").rglob("*.py"))

FORBIDDEN = {
    **dict.fromkeys(["eval", "exec", "compile"], "runs a text"),
    **dict.fromkeys(["os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"], "runs a shell"),
    **dict.fromkeys(["tempfile.mktemp", "os.tempnam"], "names a file that somebody else may make first"),
    **dict.fromkeys(["pickle.load", "pickle.Unpickler", "marshal.load", "marshal.loads"], "runs what a file says"),
    **dict.fromkeys(["shelve.open", "dill.load", "dill.loads", "cloudpickle.load", "joblib.load"], "unpickles a file"),
    **dict.fromkeys(["pandas.read_pickle", "pd.read_pickle", "torch.jit.load", "torch.hub.load"], "unpickles a file"),
    **dict.fromkeys(["yaml.unsafe_load", "yaml.full_load", "yaml.load_all"], "makes objects that a file names"),
    **dict.fromkeys(["tarfile.extractall", "zipfile.extractall", "shutil.unpack_archive"], "may write outside"),
    **dict.fromkeys(["xml.etree.ElementTree.parse", "xml.dom.minidom.parse"], "expands entities"),
}

UNPICKLES_BETWEEN_OWN_PROCESSES = {
    "autotunenet/hpo/pool.py": "exceptions of its own workers, through a pipe",
    "autotunenet/hpo/worker.py": "the job of its parent, through a pipe",
    "autotunenet_bench/executors/sending.py": "the cell of who made the task or job, through Ray or Slurm",
    "autotunenet_bench/executors/worker.py": "the cell of its parent, through a pipe",
    "autotunenet_bench/testing/members.py": "what it has pickled itself in the line before",
}
"""Where ``pickle.loads`` stands, and whose bytes it is given."""


def calls(path):
    """Every call in a file: the dotted name of what is called, and the call."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def argument(call, name):
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), None)


def fault(name, call):
    """What is wrong with a call; None where nothing is."""

    def lacks(argument_name, value):
        return argument(call, argument_name) != value

    def is_on(argument_name):
        return argument(call, argument_name) not in (None, "False")

    rules = {
        "unpickles a file: write weights_only=True": name.endswith("torch.load") and lacks("weights_only", "True"),
        "may unpickle a file: write allow_pickle=False": name in ("np.load", "numpy.load")
        and lacks("allow_pickle", "False"),
        "may write outside of its folder: write filter='data'": name.endswith(".extractall")
        and lacks("filter", "'data'"),
        "makes objects that a file names: write typ='safe'": name == "YAML" and lacks("typ", "'safe'"),
        "runs a shell": is_on("shell"),
        "runs code of a model's repository": is_on("trust_remote_code"),
    }
    return FORBIDDEN.get(name) or next((words for words, is_broken in rules.items() if is_broken), None)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: "/".join(path.parts[path.parts.index("src") + 1 :]))
def test_nothing_that_comes_in_a_file_is_run(path):
    faults = [f"{path}:{call.lineno}: {name}: {words}" for name, call in calls(path) if (words := fault(name, call))]
    assert not faults, "\n".join(faults)


def test_only_what_an_own_process_has_sent_is_unpickled():
    root = SOURCES[0].parents[0]
    while root.name != "src":
        root = root.parent
    found = {path.relative_to(root).as_posix() for path in SOURCES for name, _ in calls(path) if name == "pickle.loads"}
    assert found == UNPICKLES_BETWEEN_OWN_PROCESSES.keys()


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.load(file)",
        "yaml.unsafe_load(text)",
        "YAML(typ='unsafe')",
        "subprocess.run(line, shell=True)",
        "tempfile.mktemp()",
        "eval(text)",
        "np.load(path)",
        "archive.extractall(folder)",
    ],
)
def test_each_of_these_would_be_found(line):
    call = ast.parse(line).body[0].value
    assert fault(ast.unparse(call.func), call)
