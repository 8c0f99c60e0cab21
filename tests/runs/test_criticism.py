"""Critics that live through a run: what they are given, what is kept of them, what is told."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peerwatt.cli.main import dispatch
from peerwatt.cli.report import finish
from peerwatt.errors import PeerWattError
from peerwatt.fairness.transcript import Recording, locked
from peerwatt.plugins.loader import FILES, registry
from peerwatt.runs import runner
from peerwatt.runs.config import RunConfig, command_of, resolve
from peerwatt.runs.execute import execute, finished
from peerwatt.runs.runner import Finished, run_all
from peerwatt.runs.store import read_result, run_folder, work_folder

PLUGIN = Path(__file__).parent / "slot_asker.py"
SMALL = (("num_envs", 4), ("rollout_slots", 24), ("hidden", (8,)))
BUDGET = 8 * 4 * 24 * 4


@pytest.fixture(autouse=True)
def asking(monkeypatch):
    monkeypatch.setenv(FILES, str(PLUGIN))
    registry.cache_clear()
    yield
    monkeypatch.undo()
    registry.cache_clear()


def run_of(seed=0, critic="asking", **options):
    return resolve(
        RunConfig(
            "pilot-v1",
            "ippo",
            critic=critic,
            seed=seed,
            budget=BUDGET,
            algorithm_options=SMALL,
            critic_options=tuple(options.items()),
            validations=0,
        )
    )


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def beside(folder):
    return sorted(path.name for path in folder.parent.glob("seed-*.jsonl"))


def test_a_critic_gets_a_session_and_its_account_is_recorded(tmp_path):
    run = run_of(seed=3)
    folder = execute(run, tmp_path)
    head, session, *_, closed = lines_of(folder / "critic.jsonl")
    assert head["critic"] == run.critic_record.model_dump(mode="json")
    assert (head["seed"], head["config_hash"]) == (3, run.config_hash)
    assert session["run"] == f"{run.config_hash}-3"
    assert session["entry"] == run.config_hash
    assert (session["seed"], session["fresh"], session["repeat"]) == ("3", "False", "0")
    assert session["store"] == str(tmp_path)
    assert closed["finished"] is True
    result = read_result(folder)
    usage = result.critic_usage
    # The warm-up of the shaping is a tenth of the budget, up to the step that passes it.
    assert abs(int(session["expected_slots"]) - usage.slots) <= 4
    assert usage.slots == usage.parts and usage.scored == usage.calls > 0
    raw = (folder / "critic.jsonl").read_bytes()
    assert usage.transcript == hashlib.sha256(raw).hexdigest()
    assert "critic.jsonl" not in result.files
    assert beside(folder) == []
    assert finished(run, tmp_path)
    (folder / "critic.jsonl").unlink()
    assert finished(run, tmp_path)


def test_the_session_draws_by_the_seed_and_not_as_the_algorithm(tmp_path):
    import numpy as np

    def draw(seed, place):
        folder = execute(run_of(seed=seed), tmp_path / place)
        return lines_of(folder / "critic.jsonl")[1]["draw"]

    assert draw(1, "a") == draw(1, "b") != draw(2, "a")
    assert draw(1, "c") != np.random.default_rng([1, 0xA160]).random()


def test_a_critic_that_scores_as_the_rule_trains_the_same_policy(tmp_path):
    asked, rule = (execute(run_of(critic=name), tmp_path) for name in ("asking", "rule"))
    for name in ("policy.safetensors", "policy.json"):
        assert (asked / name).read_bytes() == (rule / name).read_bytes()
    assert read_result(rule).critic_usage is None and not (rule / "critic.jsonl").exists()


def test_abstentions_are_noted(tmp_path):
    result = read_result(execute(run_of(limit=5), tmp_path))
    (note,) = result.notes
    assert note.startswith("critic: abstained in ") and note.endswith(" capped)")


def test_an_account_that_is_wrong_fails_no_run_but_is_noted(tmp_path):
    result = read_result(execute(run_of(boasts=True), tmp_path))
    assert result.critic_usage is None
    assert result.notes == [
        "critic 'asking': usage tells of prompt_tokens = -1: "
        "Input should be greater than or equal to 0"
    ]


def test_what_says_how_a_run_is_done_stands_in_no_record(tmp_path):
    run = run_of(cache="/home/me/cache", model="x")
    assert "cache" not in run.critic_record.options
    assert run.config_hash == run_of(model="x").config_hash
    assert "--critic.model x" in command_of(run) and "cache" not in command_of(run)
    folder = execute(run, tmp_path)
    for file in folder.iterdir():
        assert b"/home/me/cache" not in file.read_bytes()


def test_the_file_that_an_option_names_is_part_of_the_configuration(tmp_path):
    prompt = tmp_path / "prompt.toml"
    prompt.write_text("one")
    first = run_of(prompt=str(prompt))
    assert first.critic_record.contents == {"prompt": hashlib.sha256(b"one").hexdigest()}
    prompt.write_text("other")
    assert run_of(prompt=str(prompt)).config_hash != first.config_hash
    assert run_of().critic_record.contents == {}


def test_a_configuration_without_contents_keeps_its_hash():
    """Results that were made before records told of contents stay valid."""
    run = run_of(critic="none")
    assert "contents" in run.critic_record.model_dump()
    content = {
        "task": [run.task_record.name, run.task_record.content_hash],
        **{
            role: record.model_dump(mode="json", exclude={"source", "contents"})
            for role, record in (
                ("mechanism", run.mechanism_record),
                ("algorithm", run.algorithm_record),
                ("critic", run.critic_record),
            )
        },
        "shaping": {**vars(run.config.shaping)},
        "budget": run.budget,
        "validations": 0,
        "metrics_version": 1,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert run.config_hash == hashlib.sha256(text.encode()).hexdigest()


def test_a_run_that_fails_keeps_its_transcript_and_can_be_run_again(tmp_path):
    run = run_of(limit=50, stop=True)
    for attempt in (1, 2):
        with pytest.raises(PeerWattError, match="critic 'asking': stopped after"):
            execute(run, tmp_path)
        folder = run_folder(tmp_path, run)
        assert not folder.exists()
        # This critic cannot be saved: each attempt begins anew.
        older = [f"seed-000.critic.interrupted-{n}.jsonl" for n in range(1, attempt)]
        assert beside(folder) == older
        left = work_folder(tmp_path, run) / "critic.jsonl"
        assert lines_of(left)[-1]["finished"] is False


def test_again_replaces_the_transcript_and_tells_the_critic(tmp_path):
    run = run_of()
    old = execute(run, tmp_path) / "critic.jsonl"
    assert lines_of(old)[1]["fresh"] == "False"
    execute(run, tmp_path, again=True)
    assert lines_of(old)[1]["fresh"] == "True"
    assert beside(old.parent) == []


def test_a_transcript_that_an_earlier_release_is_writing_is_left_alone(tmp_path):
    run = run_of()
    left = run_folder(tmp_path, run).with_name("seed-000.critic.jsonl")
    left.parent.mkdir(parents=True)
    script = (
        "import sys, time; from peerwatt.fairness.transcript import Transcript\n"
        "from pathlib import Path\n"
        "t = Transcript(Path(sys.argv[1]), {}); t.write('answer', '', {})\n"
        "print('written', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(left)], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        with pytest.raises(PeerWattError, match="is being made by another process"):
            execute(run, tmp_path)
    finally:
        other.kill()
        other.wait()
    folder = execute(run, tmp_path)
    assert beside(folder) == ["seed-000.critic.interrupted-1.jsonl"]


LINE = (
    "run --task pilot-v1 --algorithm ippo --seeds 1 --validations 0 --algorithm.num-envs 4 "
    "--algorithm.rollout-slots 24 --algorithm.hidden 8 --critic asking"
)


def test_the_table_tells_of_the_critic_in_a_line_below_it(tmp_path, capsys):
    folders = [execute(run_of(seed=seed, limit=60), tmp_path) for seed in (0, 1)]
    finish(Finished(folders, {}))
    out, err = capsys.readouterr()
    (line,) = [line for line in out.splitlines() if line.startswith("ippo + asking:")]
    assert " calls, " in line and " + 0 tokens, dollars unknown, " in line
    assert " abstained, 0.0% fallback" in line
    (warning,) = err.splitlines()
    assert "warning: ippo + asking: the critic left " in warning and " capped)" in warning
    finish(Finished([execute(run_of(), tmp_path)], {}))
    out, err = capsys.readouterr()
    assert "0.0% abstained" in out and not err
    finish(Finished([execute(run_of(critic="rule"), tmp_path)], {}))
    assert "abstained" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "critic, options, words",
    [
        ("openai-http", {"model": "x"}, "^OPENAI_API_KEY is not set"),
        ("replay", {}, "replay.transcript is empty"),
        ("replay", {"transcript": str(PLUGIN)}, "slot_asker.py"),
        ("distilled", {"teacher": "openai-http:model=x"}, "^teacher 'openai-http': OPENAI_API_KEY"),
    ],
)
def test_what_a_critic_lacks_is_told_before_any_run(critic, options, words, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = RunConfig(
        "pilot-v1",
        "ippo",
        critic=critic,
        budget=BUDGET,
        algorithm_options=SMALL,
        critic_options=tuple(options.items()),
        validations=0,
    )
    resolve(config)  # others' entries are read without a key
    with pytest.raises(PeerWattError, match=words):
        run_all([config], tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_finished_needs_no_key(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "finished", lambda run, results: True)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = RunConfig(
        "pilot-v1",
        "ippo",
        critic="openai-http",
        budget=BUDGET,
        algorithm_options=SMALL,
        critic_options=(("model", "x"),),
    )
    assert run_all([config], tmp_path).failures == {}


@pytest.mark.slow
def test_a_critic_that_stops_its_run_ends_it_with_exit_code_2(tmp_path, monkeypatch, capsys):
    """That the sentence leaves the run is proved above, that a worker brings it, in test_cli."""
    monkeypatch.chdir(tmp_path)
    words = [*LINE.split(), "--budget", str(BUDGET), "--critic.limit", "9", "--critic.stop"]
    with pytest.raises(SystemExit) as exit:
        dispatch(words)
    assert exit.value.code == 2
    err = capsys.readouterr().err
    assert "failed: critic 'asking': stopped after" in err and "Traceback" not in err
    (transcript,) = tmp_path.rglob("critic.jsonl")
    assert transcript.parent.name == ".seed-000.work"


@pytest.fixture
def training(tmp_path):
    """A `peerwatt run` whose critic has given some answers."""
    words = [*LINE.split(), "--budget", "500M", "--critic.pause", "0.01", "--shaping.warm", "0"]
    words += ["--retries", "0"]
    script = f"import sys; sys.argv = ['peerwatt', *{words!r}]\n"
    script += "from peerwatt.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 90
    while not any(b"answer" in file.read_bytes() for file in tmp_path.rglob("critic.jsonl")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield process
    process.kill()
    process.wait()


def worker_of(folder):
    """The process that makes the run below `folder`."""
    (lock,) = Path(folder).rglob("*.lock")
    return json.loads(lock.read_text())["pid"]


def let_go(file):
    """Wait until no process writes `file` any more."""
    deadline = time.monotonic() + 15
    while True:
        with file.open("a") as again:
            if locked(again):
                return
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill both", "kill the worker", "SIGINT", "SIGTERM"])
def test_answers_of_an_interrupted_run_are_kept(training, tmp_path, how):
    worker = worker_of(tmp_path)
    if how in ("SIGINT", "SIGTERM"):
        training.send_signal(signal.Signals[how])
        assert training.wait(timeout=15) == 130
    else:
        os.kill(worker, signal.SIGKILL)
        if how == "kill both":
            training.kill()
        assert training.wait(timeout=15) != 0
    (left,) = tmp_path.rglob("critic.jsonl")
    let_go(left)
    recording = Recording(left)  # readable, whatever happened
    assert recording.left() > 0
    lines = [json.loads(line) for line in left.read_text().splitlines() if line.endswith("}")]
    ended = [line for line in lines if line["kind"] == "closed"]
    assert [line["finished"] for line in ended] == ([False] if how.startswith("SIG") else [])
    content = left.read_bytes()
    # The same run again, made short from here: it begins anew, and what was left is set aside.
    run = run_of()
    folder = run_folder(tmp_path / "runs", run)
    work_folder(tmp_path / "runs", run).mkdir(parents=True)
    left.rename(work_folder(tmp_path / "runs", run) / left.name)
    execute(run, tmp_path / "runs")
    assert beside(folder) == ["seed-000.critic.interrupted-1.jsonl"]
    assert folder.with_name("seed-000.critic.interrupted-1.jsonl").read_bytes() == content
    assert (folder / "critic.jsonl").exists()
