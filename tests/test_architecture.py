"""The layout's promises: who imports whom, and what is not imported at all."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HARNESS = ROOT / "benchmark" / "peerwatt"
PLUGINS = {
    "peerwatt_algorithms",
    "peerwatt_critics",
    "peerwatt_mechanisms",
    "peerwatt_sinks",
    "peerwatt_tasks",
    "peerwatt_leaderboard",
}
# cli -> {testing -> submissions, criticbench} -> runs -> evaluation -> env;
# env -> {market, community, fairness}; community counts in the market's units; plugins and errors
# are leaves that everybody may use.
ALLOWED = {
    "market": set(),
    "community": {"market", "plugins"},  # a card names a registered mechanism
    "fairness": set(),
    "env": {"market", "community", "fairness", "plugins"},
    "evaluation": {"market", "community", "fairness", "env"},
    "plugins": {"community", "market"},  # only to load a card or a mechanism
    "runs": {"market", "community", "fairness", "env", "evaluation", "plugins"},
    "submissions": {"market", "community", "fairness", "env", "evaluation", "plugins", "runs"},
    "criticbench": {
        *("market", "community", "fairness", "env", "evaluation", "plugins", "runs"),
    },
    "testing": {
        *("market", "community", "fairness", "env", "evaluation", "plugins", "runs"),
        "submissions",  # what may be submitted is a law of algorithms
    },
    "cli": {
        *("market", "community", "fairness", "env", "evaluation", "plugins", "runs"),
        *("submissions", "testing", "criticbench"),
    },
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_parts_import_only_downwards(part):
    files = sorted((HARNESS / part).rglob("*.py"))
    assert files
    for file in files:
        for name in imports(file):
            top, *rest = name.split(".")
            assert top not in PLUGINS, f"{file} imports the plugin package {name}"
            if top == "peerwatt" and rest and (HARNESS / rest[0]).is_dir():
                assert rest[0] == part or rest[0] in ALLOWED[part], f"{file} imports {name}"


def test_core_works_without_torch():
    """Scripted traders, evaluation and the page need no torch and no safetensors."""
    script = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors"):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
from pathlib import Path
from tempfile import TemporaryDirectory
from peerwatt.cli.main import dispatch
from peerwatt.errors import PeerWattError
with TemporaryDirectory() as folder:
    runs, site = f"{folder}/runs", f"{folder}/site"
    entry = ["--task", "pilot-v1", "--algorithm", "zi-c", "--seeds", "1"]
    dispatch(["run", *entry, "--results", runs])
    dispatch(["leaderboard", "build", "--results", runs, "--out", site])
    assert (Path(site) / "index.html").exists()
    try:
        dispatch(["run", "--task", "pilot-v1", "--algorithm", "ippo", "--results", runs])
    except PeerWattError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "needs the module 'torch'" in done.stdout and "peerwatt[train]" in done.stdout


def test_nothing_draws_from_process_global_random_state():
    allowed = {"default_rng", "Generator", "SeedSequence"}
    for folder in ("benchmark", "plugins", "tasks", "leaderboard"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                    if ast.unparse(node.value) == "np.random":
                        assert node.attr in allowed, f"{file}: np.random.{node.attr}"
                    if ast.unparse(node).startswith(("torch.manual_seed", "torch.random")):
                        pytest.fail(f"{file} uses torch's global generator")
