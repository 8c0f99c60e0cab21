"""An interrupted run goes on as if nothing had happened, bit for bit, whatever interrupted it."""

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from peerwatt.errors import PeerWattError
from peerwatt.evaluation import protocol
from peerwatt.fairness.session import CriticUsage
from peerwatt.plugins.loader import FILES, registry
from peerwatt.runs import locks, provenance, resume, training
from peerwatt.runs.checkpoint import CHECKPOINT_FILE, pack, unpack
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute, finished
from peerwatt.runs.locks import held, holder
from peerwatt.runs.state import run_state
from peerwatt.runs.stopping import RunStopped, Stop
from peerwatt.runs.store import read_result, work_folder
from peerwatt.runs.untrusted import opener
from peerwatt.runs.work import FAILURE_FILE
from peerwatt_critics.rule import RuleCritic

HERE = Path(__file__).parent
SMALL = {"num_envs": 4, "rollout_slots": 24, "hidden": (8,)}
UNEVEN = {**SMALL, "minibatches": 5, "target_kl": 1e-4}
ROLLOUT = 8 * 4 * 24


@pytest.fixture(autouse=True, scope="module")
def wanderer():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FILES, str(HERE / "wanderer.py"))
        registry.cache_clear()
        registry()
        remembering = sys.modules["wanderer"].remembering
        patch.setattr(protocol, "oracle_cost", remembering(protocol.oracle_cost))
        yield
    registry.cache_clear()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of the usual run."""
    return execute(run_of(), tmp_path_factory.mktemp("undisturbed"), checkpoint_seconds=0)


def run_of(algorithm="wanderer", critic="rule", seed=0, budget=10_000, validations=2, **options):
    return resolve(
        RunConfig(
            "pilot-v1",
            algorithm,
            critic=critic,
            seed=seed,
            budget=budget,
            validations=validations,
            algorithm_options=tuple(options.items()),
        )
    )


def content(folder):
    """All that must be the same, however often a run was interrupted."""
    names = sorted(path.name for path in folder.iterdir())
    files = {n: (folder / n).read_bytes() for n in (*read_result(folder).files, "metrics.jsonl")}
    return names, files, read_result(folder).digest()


def stopped_at(run, results, *checkpoints):
    """Stop the run at the given checkpoints, counted from the last stop, then let it end."""
    for number in checkpoints:
        stop, saved = Stop(), iter(range(1, number))
        if number == 1:
            stop.ask()

        def count(stop=stop, saved=saved, number=number):
            if next(saved, number) == number - 1:
                stop.ask()

        with pytest.raises(RunStopped):
            execute(run, results, checkpoint_seconds=0, stop=stop, saved=count)
        assert not finished(run, results)
        assert run_state(run, results).kind == "stopped"
    return execute(run, results)


@pytest.mark.parametrize(
    ("algorithm", "critic", "options"),
    [
        ("wanderer", "rule", {}),
        ("ippo", "none", UNEVEN),
        ("ippo", "random", SMALL),
    ],
)
def test_a_run_that_was_stopped_and_gone_on_with_is_the_same(tmp_path, algorithm, critic, options):
    budget = 10_000 if algorithm == "wanderer" else 4 * ROLLOUT
    run = run_of(algorithm, critic, budget=budget, **options)
    plain = execute(run, tmp_path / "plain")
    iterations = len((plain / "metrics.jsonl").read_text().splitlines())
    for n, stops in enumerate([(1, 1), (iterations,)]):
        folder = stopped_at(run, tmp_path / str(n), *stops)
        assert content(folder) == content(plain)
        assert read_result(folder).timings.interruptions == len(stops)
        assert read_result(folder).notes == []


SCRIPT = """
import ast, sys
from pathlib import Path
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
run = resolve(RunConfig("pilot-v1", sys.argv[2], critic=sys.argv[3], budget=int(sys.argv[4]),
    validations=2, algorithm_options=ast.literal_eval(sys.argv[5])))
print("begun", flush=True)
execute(run, Path(sys.argv[1]), checkpoint_seconds=0)
"""


def killed_at_random(tmp_path, kills, seed, algorithm="wanderer", critic="rule", **options):
    """Kill -9 a run at random moments, go on each time, and compare with an undisturbed one."""
    budget = 10_000 if algorithm == "wanderer" else 6 * ROLLOUT
    run = run_of(algorithm, critic, budget=budget, **options)
    began = time.monotonic()
    plain = execute(run, tmp_path / "plain", checkpoint_seconds=0)
    takes = time.monotonic() - began
    moments = random.Random(seed)
    words = [tmp_path / "killed", algorithm, critic, str(budget), repr(tuple(options.items()))]
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *words],
            env={**os.environ, FILES: str(HERE / "wanderer.py")},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        process.stdout.readline()
        time.sleep(moments.random() * takes)
        process.kill()
        process.wait()
        process.stdout.close()
    assert run_state(run, tmp_path / "killed").kind in ("stopped", "done")
    assert content(execute(run, tmp_path / "killed")) == content(plain)


def test_a_run_that_is_killed_at_random_moments_is_the_same(tmp_path):
    killed_at_random(tmp_path, 2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("critic", ["none", "rule", "random"])
def test_ippo_killed_at_random_moments_is_the_same(tmp_path, seed, critic):
    killed_at_random(tmp_path, 4, seed, "ippo", critic, **UNEVEN)


@pytest.mark.parametrize("every", [19, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_that_dies_at_any_of_its_calls_to_the_disk_is_the_same(tmp_path, every):
    words = [sys.executable, HERE / "crash_points.py", tmp_path, str(every)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(int(points) > 20 // every for points in done.stdout.split())


def stopped(run, results):
    """Stop the run after its first checkpoint."""
    stop = Stop()
    stop.ask()
    with pytest.raises(RunStopped):
        execute(run, results, stop=stop)
    return work_folder(results, run)


def rewritten(file, **changes):
    state = unpack(file.read_bytes())
    file.write_bytes(pack({**state, **changes}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda work: (work / CHECKPOINT_FILE).write_bytes(b"x" * 100), "is damaged"),
        (lambda work: os.truncate(work / "metrics.jsonl", 10), "metrics.jsonl is shorter than"),
        (
            lambda work: rewritten(work / CHECKPOINT_FILE, fingerprint={"processor": "abacus"}),
            "was made with other .*processor",
        ),
    ],
)
def test_a_checkpoint_that_is_of_no_use_is_told_and_the_run_begins_anew(
    undisturbed, tmp_path, damage, says
):
    run = run_of()
    damage(stopped(run, tmp_path / "damaged"))
    folder = execute(run, tmp_path / "damaged")
    (note,) = read_result(folder).notes
    assert re.search(says, note) and note.endswith(": the run begins anew")
    assert content(folder) == content(undisturbed)


def test_a_fingerprint_names_code_versions_and_machine(monkeypatch):
    first = provenance.fingerprint(run_of())
    assert {"numpy", "numba", "Python", "processor", "PeerWatt's code"} <= first.keys()
    assert re.fullmatch("[0-9a-f]{64}", first["wanderer's code"])
    assert all(map(provenance._code_digest, provenance.DECIDING))  # all of them are found
    assert provenance.fingerprint(run_of(seed=1)) != first
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert provenance.fingerprint(run_of()) != first


def test_a_full_disk_keeps_the_older_checkpoint_and_the_run_goes_on(
    undisturbed, tmp_path, monkeypatch
):
    run = run_of()
    writes = []
    whole = resume.write_whole

    def full(file, data):
        writes.append(file)
        if len(writes) > 2:
            raise OSError(28, "No space left on device")
        whole(file, data)

    monkeypatch.setattr(resume, "write_whole", full)
    folder = execute(run, tmp_path / "full", checkpoint_seconds=0)
    assert len(writes) == 5
    (note,) = read_result(folder).notes
    assert "a checkpoint could not be saved" in note and "No space left" in note
    assert content(folder) == content(undisturbed)


def test_reports_that_cannot_be_written_fail_the_run_which_can_go_on(
    undisturbed, tmp_path, monkeypatch
):
    run = run_of()
    done = []

    def full(path, flags):
        if str(path).endswith("metrics.jsonl"):
            done.append(path)
            if len(done) == 3:
                raise OSError(28, "No space left on device")
        return opener(path, flags)

    with monkeypatch.context() as patch:
        patch.setattr(training, "opener", full)
        with pytest.raises(PeerWattError, match=r"cannot write the reports .*No space left"):
            execute(run, tmp_path / "full", checkpoint_seconds=0)
    state = run_state(run, tmp_path / "full")
    assert state.kind == "failed" and state.agent_steps > 0 and "No space left" in state.failure
    assert content(execute(run, tmp_path / "full")) == content(undisturbed)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "pilot-v1").touch()
    with pytest.raises(PeerWattError, match=r"cannot write .*pilot-v1.*--results"):
        execute(run_of(), tmp_path)
    (tmp_path / ".locks2").touch()
    with pytest.raises(PeerWattError, match=r"cannot write results to .*--results"):
        execute(run_of(), tmp_path / ".locks2")


def test_two_processes_are_not_at_one_run(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.2)
    run = run_of()
    with held(tmp_path, run):
        assert str(os.getpid()) in holder(tmp_path, run)
        assert run_state(run, tmp_path).kind == "running"
        with pytest.raises(PeerWattError, match=f"is being made by .*process {os.getpid()} on "):
            execute(run, tmp_path)
        assert not finished(run, tmp_path)
    assert not list(tmp_path.rglob(FAILURE_FILE))
    assert holder(tmp_path, run) is None
    assert run_state(run, tmp_path).kind == "new"
    execute(run, tmp_path)
    assert run_state(run, tmp_path).kind == "done"


def test_a_run_that_is_done_again_is_unfinished_until_it_is_done(tmp_path):
    run = run_of()
    folder = execute(run, tmp_path)
    first = (folder / "result.json").read_bytes()
    stop = Stop()
    stop.ask()
    with pytest.raises(RunStopped):
        execute(run, tmp_path, again=True, stop=stop)
    assert not finished(run, tmp_path)
    assert run_state(run, tmp_path).kind == "stopped"
    assert (folder / "result.json").read_bytes() == first
    attempt = (work_folder(tmp_path, run) / "attempt.json").read_text()
    again = json.loads(attempt)
    assert again["again"] and again["begun"] == 1
    with pytest.raises(RunStopped):  # --again once more goes on with it
        execute(run, tmp_path, again=True, stop=stop)
    going_on = json.loads((work_folder(tmp_path, run) / "attempt.json").read_text())
    assert (going_on["id"], going_on["begun"]) == (again["id"], 2)
    execute(run, tmp_path)
    assert finished(run, tmp_path)
    assert read_result(folder).timings.interruptions == 2
    assert not work_folder(tmp_path, run).exists()


def test_what_an_unfinished_run_was_is_forgotten_when_it_is_done_again(tmp_path):
    run = run_of()
    work = stopped(run, tmp_path)
    before = json.loads((work / "attempt.json").read_text())["id"]
    stop = Stop()
    stop.ask()
    with pytest.raises(RunStopped):
        execute(run, tmp_path, again=True, stop=stop)
    attempt = json.loads((work / "attempt.json").read_text())
    assert attempt["again"] and attempt["id"] != before


def test_a_whole_result_takes_its_place_whoever_looks_next(tmp_path):
    run = run_of()
    folder, work = execute(run, tmp_path), work_folder(tmp_path, run)
    folder.rename(work)
    assert run_state(run, tmp_path).kind == "done"
    assert work.exists()  # whoever only looks changes nothing
    assert finished(run, tmp_path)
    assert folder.exists() and not work.exists()
    folder.rename(work)
    (work / "policy.json").write_text("[]")
    assert not finished(run, tmp_path)


def test_an_algorithm_that_does_not_ask_to_resume_is_told(tmp_path):
    with pytest.raises(PeerWattError, match=r"calls run.checkpoint but did not call run.resume"):
        execute(run_of(resumes=False), tmp_path)


@dataclass(frozen=True)
class Unsavable:
    def open(self, session):
        opened = type("Open", (), {})()
        opened.score = RuleCritic().score
        opened.usage = lambda: None
        opened.close = lambda finished: None
        return opened


def test_a_run_whose_critic_cannot_be_saved_stops_at_once_and_begins_anew(undisturbed, tmp_path):
    run = dataclasses.replace(run_of(), critic=Unsavable())
    stop, told = Stop(), []

    def progress(agent_steps, calls):
        told.append(agent_steps)
        stop.ask()

    with pytest.raises(RunStopped):
        execute(run, tmp_path / "other", progress, checkpoint_seconds=0, stop=stop)
    work = work_folder(tmp_path / "other", run)
    assert told[0] > 0 and not (work / CHECKPOINT_FILE).exists()
    assert run_state(run, tmp_path / "other").agent_steps == 0
    assert content(execute(run, tmp_path / "other")) == content(undisturbed)


def test_a_clock_that_goes_backwards_changes_nothing(undisturbed, tmp_path, monkeypatch):
    run = run_of()
    now = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: next(now))
    folder = stopped_at(run, tmp_path / "other", 2)
    assert content(folder) == content(undisturbed)
    assert read_result(folder).timings.wall > 0


def test_the_digest_is_of_what_was_decided_and_nothing_else(undisturbed):
    result = read_result(undisturbed)
    kept = {
        *("schema_version", "metrics_version", "task", "mechanism", "algorithm", "critic", "seed"),
        *("shaping", "budget", "agent_steps", "validations", "config_hash", "households", "test"),
        *("curve", "files", "critic_usage"),
    }
    left_out = {"timings", "environment", "command", "notes", "created_utc"}
    assert kept | left_out == set(type(result).model_fields)
    for name in kept:
        other = result.model_copy(update={name: changed(result, name)})
        assert other.digest() != result.digest(), name
    other = result.model_copy(
        update={
            "timings": result.timings.model_copy(update={"wall": 1.0, "interruptions": 3}),
            "environment": result.environment.model_copy(update={"python": "2.7"}),
            "command": "other",
            "notes": ["something"],
            "created_utc": "2000-01-01T00:00:00Z",
            "algorithm": result.algorithm.model_copy(update={"source": "elsewhere"}),
            "files": {**result.files, "critic.jsonl": "0" * 64},
        }
    )
    assert other.digest() == result.digest()


def changed(result, name):
    value = getattr(result, name)
    if name == "critic_usage":
        return CriticUsage(slots=3, scored=3)
    if name == "files":
        return {**value, "metrics.jsonl": "0" * 64}
    if name == "test":
        return value.model_copy(update={"episodes": value.episodes + 1})
    if name == "task":
        return value.model_copy(update={"slots": 1})
    if name in ("mechanism", "algorithm", "critic"):
        return value.model_copy(update={"options": {"x": 1}})
    if isinstance(value, list):
        return value[:-1]
    if isinstance(value, dict):
        return {**value, "ftg": 9.0}
    return value + 1 if isinstance(value, int) else value[::-1]


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_the_lock_ends_with_its_process(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.2)
    run = run_of()
    with held(tmp_path, run):
        pass
    (file,) = (tmp_path / ".locks").iterdir()
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True); input()"
    )
    words = [sys.executable, "-c", script, file]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(PeerWattError, match="is being made by another process"):
            execute(run, tmp_path)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert holder(tmp_path, run) is None
    with held(tmp_path, run, seconds=0):
        monkeypatch.setattr(locks, "alive", lambda pid: False)
        assert "which is gone, but a process that it began holds" in holder(tmp_path, run)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_a_run_forks_keeps_no_lock(tmp_path, monkeypatch):
    names = tmp_path / ("n" * 200) / ("m" * 200) / "seed-000"  # longer than a file's name may be
    monkeypatch.setattr(locks, "run_folder", lambda results, run: names)
    with held(tmp_path, None, seconds=0):
        child = os.fork()
        if not child:
            time.sleep(600)
            os._exit(0)
    try:
        deadline = time.monotonic() + 10  # until the child has come to let it go
        while holder(tmp_path, None):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
