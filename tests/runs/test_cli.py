"""The real command line, end to end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from peerwatt.cli.main import main
from peerwatt.fairness import Shaping
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.runs.result import RunResult
from peerwatt.runs.store import read_result


def peerwatt(capsys, monkeypatch, *words):
    """Run the command in this process; return exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["peerwatt", *map(str, words)])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: peerwatt(capsys, monkeypatch, *words)


def loaded_modules(*words):
    script = (
        "import sys\nfrom peerwatt.cli.main import main\n"
        f"sys.argv = ['peerwatt', *{list(words)!r}]\nmain()\n"
        "print(' '.join(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout, set(done.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("list",)])
def test_help_and_list_import_nothing_heavy(words):
    out, modules = loaded_modules(*words)
    assert "run" in out or "ippo" in out
    assert not modules & {"torch", "numba", "scipy", "matplotlib", "pydantic", "numpy"}


def test_list_names_what_is_installed_and_who_brought_it(cli):
    code, out, _ = cli("list", "--json")
    assert code == 0
    content = json.loads(out)
    assert [task["name"] for task in content["task"]] == ["fontana-v1", "pilot-v1"]
    assert {"ippo", "zi-c", "grid-only", "mid-quote", "self-consumption"} <= {
        algorithm["name"] for algorithm in content["algorithm"]
    }
    assert {critic["name"] for critic in content["critic"]} >= {"none", "rule"}
    assert content["task"][0]["distribution"] == "peerwatt"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("run --task pilot --algorithm zi-c", "unknown task 'pilot': did you mean 'pilot-v1'?"),
        ("run --task pilot-v1 --algorithm ipo", "unknown algorithm 'ipo': did you mean 'ippo'?"),
        (
            "run --task pilot-v1 --algorithm ippo --critic rules",
            "unknown critic 'rules': did you mean 'rule'?",
        ),
        ("run --task pilot-v1 --algorithm zi-c --mechanism cdaa", "did you mean 'cda'?"),
        ("run --task pilot-v1 --algorithm zi-c --critic rule", "does not learn"),
        ("run --task pilot-v1 --algorithm ippo --budget=-4", "--budget '-4'"),
        ("run --task pilot-v1 --algorithm zi-c --seeds 0", "--seeds 0"),
        ("run --task nowhere.toml --algorithm zi-c", "cannot read task card nowhere.toml"),
        ("run --task pilot-v1 --algorithm ippo --algorithm.num-envs 0", "num_envs 0 must be at"),
        (
            "run --task pilot-v1 --algorithm ippo --algorithm.clip=-1",
            "clip -1.0 must be a positive",
        ),
        ("run --task pilot-v1 --algorithm ippo --algorithm.gamma 2", "gamma 2.0 must be a number"),
        ("run --task pilot-v1 --algorithm ippo --algorithm.hidden 0", "hidden (0,) must be widths"),
        ("run --task pilot-v1 --algorithm ippo --budget 100 --seeds 1", "less than one rollout"),
        ("run --task pilot-v1 --algorithm zi-c --workers 0", "--workers 0"),
        ("run --task pilot-v1 --algorithm ippo --validations=-5", "--validations -5"),
        ("run --suite quick --seeds 0", "--seeds 0"),
        ("run --suite quick --budget x", "--budget 'x'"),
        ("run --suite quik", "unknown suite 'quik': did you mean 'quick'?"),
        ("run --suite nowhere.toml", "cannot read suite nowhere.toml"),
        ("run --task pilot-v1 --algorithm zi-c --retries=-1", "--retries -1 must be at least 0"),
        ("run --suite quick --checkpoint-seconds nan", "--checkpoint-seconds nan must be"),
        ("run --suite quick --run-cpus 2", "--run-cpus 2.0 is for --executor ray"),
        ("status nowhere", "nowhere: no such folder"),
        ("resume .", "holds no plan to go on with"),
        ("rum", "unknown command 'rum': did you mean 'run'?"),
        ("evaluate nowhere", "cannot be read"),
        ("leaderboard build --results nowhere", "no such folder"),
        ("list --jsn", "--jsn"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(cli, tmp_path, line, sentence):
    code, _, err = cli(*line.split())
    assert code == 2
    lines = [line for line in err.splitlines() if line.startswith("peerwatt: ")]
    assert len(lines) == 1, err
    assert sentence in lines[0]
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.json"))


def test_results_folder_that_cannot_be_written(cli, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = cli(
        "run", "--task", "pilot-v1", "--algorithm", "zi-c", "--results", tmp_path / "file" / "runs"
    )
    assert code == 2
    assert "cannot write results to" in err and "--results" in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def folders(root):
    return sorted(path.parent for path in Path(root).rglob("result.json"))


def test_scripted_entry_runs_is_not_repeated_and_evaluates_to_its_record(cli, tmp_path):
    words = ("run", "--task", "pilot-v1", "--algorithm", "zi-c", "--seeds", "2", "--workers", "1")
    code, out, _ = cli(*words)
    assert code == 0 and "zi-c" in out
    first, second = folders("runs")
    result = read_result(first)
    assert (result.seed, read_result(second).seed) == (0, 1)
    assert result.config_hash == read_result(second).config_hash
    assert sorted(p.name for p in first.iterdir()) == [
        "clock.jsonl",
        "metrics.jsonl",
        "policy.json",
        "result.json",
    ]
    hidden = {p.name for p in Path("runs").rglob(".*")}
    assert hidden == {".locks", ".plans"}, "nothing unfinished is left"
    before = (first / "result.json").stat().st_mtime_ns
    code, _, err = cli(*words)
    assert code == 0 and "2 runs: 2 done" in err and "2 of 2 runs are finished already" in err
    assert (first / "result.json").stat().st_mtime_ns == before
    code, _, _ = cli(*words, "--again")
    assert code == 0
    again = read_result(first)
    assert again.test == result.test, "same seed, same episodes"
    assert (first / "result.json").stat().st_mtime_ns != before
    code, out, _ = cli("evaluate", first)
    assert code == 0 and "reproduced" in out
    code, out, _ = cli("leaderboard", "build", "--results", "runs", "--out", "site")
    assert code == 0 and (tmp_path / "site" / "index.html").exists()


def test_ippo_learns_something_and_the_same_seed_gives_the_same_bytes(cli):
    words = (
        "run", "--task", "pilot-v1", "--algorithm", "ippo", "--critic", "rule", "--seeds", "1",
        "--first-seed", "7", "--budget", "60k", "--algorithm.num-envs", "8",
        "--algorithm.hidden", "16", "--shaping.ftg", "0.2", "--workers", "1",
    )  # fmt: skip
    assert cli(*words, "--results", "a")[0] == 0
    (a,) = folders("a")
    config = RunConfig(
        *("pilot-v1", "ippo"),
        critic="rule",
        seed=7,
        budget=60_000,
        algorithm_options=(("num_envs", 8), ("hidden", (16,))),
        shaping=Shaping(ftg=0.2),
    )
    b = execute(resolve(config), Path("b"))  # in this process, not in a worker
    assert b.name == a.name and b.parent.name == a.parent.name
    assert (a / "policy.safetensors").read_bytes() == (b / "policy.safetensors").read_bytes()
    result = read_result(a)
    assert result.test == read_result(b).test
    assert result.agent_steps <= result.budget == 60_000
    assert result.shaping["ftg"] == 0.2
    assert result.algorithm.options["hidden"] == [16]
    assert len(result.curve) >= 5
    assert "--algorithm.num-envs 8" in result.command and "--shaping.ftg 0.2" in result.command
    rows = [json.loads(line) for line in (a / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["agent_steps"] == result.agent_steps and "entropy" in rows[0]


def test_run_without_arguments_says_what_is_missing(cli):
    code, _, err = cli("run")
    assert code == 2 and "--task" in err and "Traceback" not in err


def test_evaluate_tells_a_difference_and_a_foreign_policy(cli):
    words = ("run", "--task", "pilot-v1", "--algorithm", "zi-c", "--seeds", "1")
    folder = execute(resolve(RunConfig("pilot-v1", "zi-c")), Path("runs"))
    record = folder / "result.json"
    text = record.read_text()
    seed = '"seed": 0'
    assert seed in text
    record.write_text(text.replace(seed, '"seed": 1'))
    code, out, _ = cli("evaluate", record)
    assert code == 1 and "DIFFERS" in out
    record.write_text(text)
    (folder / "policy.json").write_text('{"rule": "ZeroIntelligence", "nvec": [11, 3, 8]}')
    code, _, err = cli("evaluate", folder)
    assert code in (1, 2) and "Traceback" not in err
    record.write_text(text[:100])
    assert cli(*words)[0] == 0  # it is made anew
    assert folder.with_name(".seed-000.damaged-1").is_dir()


def test_the_command_in_the_result_is_quoted(cli, tmp_path):
    import shlex

    from peerwatt.runs.config import command_of

    config = RunConfig(task="pilot-v1", algorithm="ippo", validations=3, mechanism="call")
    words = shlex.split(command_of(resolve(config)))
    assert words[:4] == ["peerwatt", "run", "--task", "pilot-v1"]
    assert words[-6:] == ["--first-seed", "0", "--budget", "2000000", "--validations", "3"]


def test_compare_tells_two_entries_apart(cli):
    for algorithm in ("zi-c", "mid-quote"):
        for seed in range(5):
            execute(resolve(RunConfig("pilot-v1", algorithm, seed=seed)), Path("runs"))
    zi, mid = (next(Path("runs/pilot-v1").glob(f"{name}--*")) for name in ("zi-c", "mid-quote"))
    code, out, _ = cli("compare", zi, mid)
    assert code == 0
    welfare = next(line for line in out.splitlines() if "Welfare" in line)
    assert "1.000" in welfare and "higher" in welfare and "+0.2" in welfare
    assert "higher welfare: 1.00" in out
    code, _, err = cli("compare", "runs", mid)
    assert code == 2 and "holds 2 entries" in err


def test_result_schema_is_printed_and_rejects_unknown_keys(cli):
    code, out, _ = cli("schema")
    assert code == 0
    schema = json.loads(out)
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(RunResult.model_fields)
