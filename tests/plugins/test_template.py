"""The packages that `peerwatt plugins new` writes: sound, tidy, and better than a stub."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from peerwatt.errors import PeerWattError
from peerwatt.evaluation import Evaluator
from peerwatt.fairness import Shaping
from peerwatt.plugins import loader, template
from peerwatt.runs import TrainingRun
from peerwatt.testing import examine

ROOT = Path(__file__).parents[2]


@pytest.fixture
def use(tmp_path, monkeypatch):
    """Write a package and load its module as a single-file plugin."""
    written = []

    def use(kind, name=None):
        name = name or f"new-{kind}"
        package = template.write_plugin(name, kind, tmp_path)
        file = package.folder / f"{name.replace('-', '_')}.py"
        written.append(file.stem)
        monkeypatch.setenv(loader.FILES, str(file))
        loader.registry.cache_clear()
        return name

    yield use
    monkeypatch.undo()
    loader.registry.cache_clear()
    for module in written:
        sys.modules.pop(module, None)


@pytest.mark.parametrize("kind", ["algorithm", "critic", "task", "sink"])
def test_each_obeys_the_laws_of_its_kind(use, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = use(kind)
    findings = list(examine(kind, f"{name}-v1" if kind == "task" else name))
    assert len(findings) > 5
    assert [finding.problem for finding in findings if finding.problem] == []


def test_the_mechanism_pairs_the_best_bid_with_the_best_offer(use):
    """Its laws are examined in `tests/story`, for that takes longer."""
    mechanism = loader.load_mechanism(use("mechanism"))
    order = np.array([10, -4, 5, -9, 0])
    level = np.array([0, 2, 1, 1, 0])
    ticks = np.array([80, 120, 161])
    traded, payment, scratch = (np.full(size, 7) for size in (5, 5, 8 * 5 + 256))
    moments = mechanism.clear(
        order,
        level,
        ticks,
        np.arange(5),
        np.array(mechanism.parameters()),
        traded,
        payment,
        scratch,
    )
    # 4 at 80..161, 6 at 80..120, 3 at 120: prices 120, 100, 120.
    assert traded.tolist() == [10, -4, 3, -9, 0]
    assert payment.tolist() == [480 + 600, -480, 360, -600 - 360, 0]
    assert moments == (13, 480 + 600 + 360, 4 * 120**2 + 6 * 100**2 + 3 * 120**2)


def test_the_learner_beats_zero_intelligence(use):
    """`zi-c` has a welfare of 0.73 on pilot-v1."""
    learner = loader.build("algorithm", loader.find("algorithm", use("algorithm")), {})
    task = loader.load_task("pilot-v1")
    critic = loader.build("critic", loader.find("critic", "none"), {})
    run = TrainingRun(task, seed=1, budget=200_000, critic=critic, shaping=Shaping(), validations=0)
    policy = learner.train(run)
    assert Evaluator(task, "validation")(policy, 1).welfare > 0.85


@pytest.mark.parametrize("kind", loader.PLUGIN_KINDS)
def test_what_is_written_is_tidy(tmp_path, kind):
    written = template.write_plugin(f"new-{kind}", kind, tmp_path)
    for file in written.files:
        text = (written.folder / file).read_text()
        assert "${" not in text, file
        assert max(map(len, text.splitlines())) <= 120, file
    project = tomllib.loads((written.folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"] == {"peerwatt": {f"new_{kind}": f"new_{kind}"}}
    for included in project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]:
        assert (written.folder / included).exists()
    for words in (["check"], ["format", "--check"]):
        config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, *config, "."],
            cwd=written.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_the_task_is_the_same_wherever_it_is_written(use):
    """Its profiles are data: an update of the generator must not change tasks that were published,
    but it may change new ones. What is held here is that the card fits them."""
    task = loader.load_task(use("task", "our-street") + "-v1")
    assert task.name == "our-street-v1"
    assert task.community.groups.count("consumer") == 3
    net = task.community.pv.sum(axis=1) - task.community.load.sum(axis=1)
    assert net.max() > 0 > net.min()  # at noon there is something to trade


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("MyTrader", "did you mean 'my-trader'?"),
        ("my_trader", "did you mean 'my-trader'?"),
        ("2trader", "did you mean 'trader'?"),
        ("my-trader-", "did you mean 'my-trader'?"),
        ("my--trader", "did you mean 'my-trader'?"),
        ("3com", "must start with a letter"),
        ("../evil", "did you mean 'evil'?"),
        ("a" * 41, "at most 40 characters"),
        ("", "be lower-case words"),
        ("é", "be lower-case words"),
        ("lambda", "is a word of Python's own"),
        ("json", "would hide the installed module 'json'"),
        ("numpy", "would hide the installed package 'numpy'"),
        ("peerwatt-algorithms", "would hide the installed module 'peerwatt_algorithms'"),
        ("ippo", "the algorithm 'ippo' is there already, from peerwatt"),
    ],
)
def test_names_that_cannot_be(tmp_path, name, sentence):
    with pytest.raises(PeerWattError) as told:
        template.write_plugin(name, "algorithm", tmp_path)
    assert sentence in str(told.value)
    assert not list(tmp_path.iterdir())


def test_what_the_readme_says_is_true_of_the_kind(tmp_path):
    def readme(kind):
        folder = template.write_plugin(f"new-{kind}", kind, tmp_path).folder
        return (folder / "README.md").read_text()

    assert "submit" not in readme("sink").replace("nothing to submit", "")
    assert "`new-task-v2`" in (task := readme("task")) and "`new_task_data/`" in task
    assert "peerwatt[train]" in readme("critic")
    assert "peerwatt[train]" not in readme("mechanism")


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "new-sink").mkdir()
    with pytest.raises(PeerWattError, match="is there already: choose another"):
        template.write_plugin("new-sink", "sink", tmp_path)
    assert not list((tmp_path / "new-sink").iterdir())
    with pytest.raises(PeerWattError, match=r"cannot write .*: No such file"):
        template.write_plugin("new-sink", "sink", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["path", "iterable", "training-run", "self"])
def test_a_class_never_hides_what_the_module_uses(use, name):
    factory = loader.find("algorithm", use("algorithm", name)).spec.factory
    assert factory.endswith("Algorithm"), factory


def test_a_version_in_a_tasks_name_is_kept(tmp_path):
    written = template.write_plugin("our-street-v3", "task", tmp_path)
    assert 'name="our-street-v3"' in (written.folder / "our_street_v3.py").read_text()
