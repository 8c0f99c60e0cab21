"""`peerwatt plugins` on the command line; what is broken is in `tests/plugins`."""

import json
import re
import sys

import pytest

from peerwatt.cli import plugins
from peerwatt.cli.main import main
from peerwatt.plugins import loader


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Run the command in this process; return exit code, stdout, stderr."""

    def peerwatt(*words):
        monkeypatch.setattr(sys, "argv", ["peerwatt", *map(str, words)])
        loader.registry.cache_clear()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    yield peerwatt
    monkeypatch.undo()
    loader.registry.cache_clear()
    for name in {"my_trader", "my_critic", "my_sink"} & set(sys.modules) - before:
        del sys.modules[name]


def test_list_shows_distribution_version_hooks_names_and_status(cli):
    code, out, err = cli("plugins", "list")
    assert code == 0 and not err
    first = next(line for line in out.splitlines() if "peerwatt_algorithms" in line)
    assert re.match(r" peerwatt +\d\S* +peerwatt_algorithms +grid-only, .* ok", first)
    assert out.count(" peerwatt  ") == 1  # who brings it is told once
    code, out, _ = cli("plugins", "list", "--json")
    content = json.loads(out)
    assert content["api"] == 1
    hooks = {hook: p["names"] for p in content["plugins"] for hook in p["hooks"]}
    assert hooks["peerwatt_sinks"] == {"sink": ["csv", "tensorboard", "wandb"]}
    assert {plugin["distribution"] for plugin in content["plugins"]} == {"peerwatt"}


def test_list_of_one_kind(cli):
    _, out, _ = cli("plugins", "list", "--kind", "critic")
    assert "peerwatt_critics" in out and "peerwatt_tasks" not in out
    assert cli("plugins", "list", "--kind", "critic", "--check")[0] == 0


def test_checking_leaves_what_is_registered_alone(cli, tmp_path, monkeypatch):
    cli("plugins", "new", "my-critic", "--kind", "critic")
    file = tmp_path / "my-critic" / "my_critic.py"
    file.write_text(file.read_text().replace("<= self.weight <=", "< self.weight < 0 <"))
    cli("plugins", "list", "--plugin", file)
    monkeypatch.setattr(loader.registry, "cache_clear", lambda: None)
    code, out, _ = cli("plugins", "list", "--check")
    assert code == 1 and "weight 0.5 must lie in 0..1" in out and " warning" in out
    assert loader.registry().problems == []


def test_new_says_what_was_written_and_what_to_do_next(cli, tmp_path):
    code, out, _ = cli("plugins", "new", "my-critic", "--kind", "critic", "--folder", "sub")
    assert code == 2
    (tmp_path / "sub").mkdir()
    code, out, _ = cli("plugins", "new", "my-critic", "--kind", "critic", "--folder", "sub")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == (
        "Written to sub/my-critic: README.md, my_critic.py, pyproject.toml, test_my_critic.py."
    )
    assert [line.split()[:3] for line in lines[2:]] == [
        ["pip", "install", "'peerwatt[train]'"],  # a critic is tried with ippo
        ["peerwatt", "run", "--plugin"],
        ["pip", "install", "-e"],
        ["peerwatt", "plugins", "doctor"],
    ]
    assert "./sub/my-critic/my_critic.py" in lines[3]


def test_doctor_hints_at_a_file_that_was_not_named(cli, tmp_path):
    cli("plugins", "new", "my-critic", "--kind", "critic")
    code, _, err = cli("plugins", "doctor", "my-critic")
    assert code == 2 and "Add --plugin ./my-critic/my_critic.py." in err
    (tmp_path / "hill.py").touch()
    assert "Add --plugin ./hill.py." in cli("plugins", "doctor", "hill")[2]


def test_doctor_names_the_broken_law_and_the_mend(cli, tmp_path):
    cli("plugins", "new", "my-critic", "--kind", "critic")
    file = tmp_path / "my-critic" / "my_critic.py"
    code, out, _ = cli("plugins", "doctor", "my-critic", "--plugin", file)
    assert code == 0
    assert "critic my-critic of file:my_critic.py" in out and " 0 broken, " in out

    del sys.modules["my_critic"]
    file.write_text(file.read_text().replace("ftg=closed.ftg", "ftg=2 * closed.ftg"))
    code, out, _ = cli("plugins", "doctor", "file:my_critic.py:my-critic", "--plugin", file)
    assert code == 1
    assert re.search(r"^broken +range +critic 'my-critic': ", out, re.MULTILINE)


def test_doctor_takes_the_options_of_the_plugin(cli, tmp_path):
    cli("plugins", "new", "my-critic", "--kind", "critic")
    words = ("plugins", "doctor", "my-critic", "--plugin", tmp_path / "my-critic" / "my_critic.py")
    assert cli(*words, "--critic.weight", "0.25")[0] == 0
    code, _, err = cli(*words, "--critic.weight=7")
    assert code == 2 and "weight 7.0 must lie in 0..1" in err
    code, _, err = cli(*words, "--critic.wight", "1")
    assert code == 2 and "--critic.weight" in err


def test_doctor_reads_options_as_run_does(cli, monkeypatch):
    """Several values, switches, and one set of options for each plugin of the kind."""
    seen = []
    monkeypatch.setattr(
        plugins,
        "_examine",
        lambda patient, budget, options, console: seen.append((patient, options)) or True,
    )
    words = "--algorithm.hidden 8 8 --algorithm.no-anneal --algorithm.gamma 0.9"
    assert cli("plugins", "doctor", "ippo", *words.split())[0] == 0
    ((patient, options),) = seen
    assert patient.full_name == "peerwatt:ippo"
    assert options == {"hidden": (8, 8), "anneal": False, "gamma": 0.9}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("doctor nobody", "unknown plugin 'nobody'"),
        ("doctor rul", "unknown plugin 'rul': did you mean 'rule'?"),
        ("doctor csv --kind critic", "unknown critic 'csv'"),
        ("doctor csv --whatever", "does not know '--whatever'"),
        ("doctor csv --track x", "does not know '--track'"),
        ("doctor csv x --track.folder y", "does not know 'x'"),
        ("doctor csv --critic.weight 1", "--critic.weight: 'csv' is no critic"),
        ("doctor pilot-v1 --task.size 1", "--task.size: a task has no options"),
        ("doctor call --mechanism.theta 7", "theta 7.0 of mechanism 'call' must lie in 0..1"),
        ("doctor zi-c --budget lots", "--budget 'lots'"),
        ("list --jsn", "unknown '--jsn'"),
        ("list --kind critics", "invalid choice: 'critics'"),
        ("lst", "invalid choice: 'lst'"),
        ("new trader", "required: --kind"),
        ("new trader --kind plugin", "invalid choice: 'plugin'"),
        ("new json --kind task", "would hide the installed module"),
        ("", "required: command"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(cli, tmp_path, line, sentence):
    code, out, err = cli("plugins", *line.split())
    assert code == 2 and not out
    assert len(err.splitlines()) == 1 and err.startswith("peerwatt: ")
    assert sentence in err
    assert not list(tmp_path.iterdir())
