"""Executors and what the runner does with failed, lost and interrupted runs."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from peerwatt.cli.main import main
from peerwatt.errors import PeerWattError
from peerwatt.plugins import loader
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.runs.executors import Began, Ended, Failure, Lost, Played
from peerwatt.runs.executors.in_process import InProcessExecutor
from peerwatt.runs.executors.worker import work
from peerwatt.runs.live import LiveView, spoken
from peerwatt.runs.plan import Plan, labels_of
from peerwatt.runs.runner import run_all
from peerwatt.runs.state import run_state
from peerwatt.runs.stopping import Stop
from peerwatt.runs.store import read_result, work_folder

PLUGIN = Path(__file__).parent / "mortal.py"


@pytest.fixture
def mortal(monkeypatch):
    """Register the algorithm `mortal`; return what makes its configuration."""
    monkeypatch.setenv(loader.FILES, str(PLUGIN))
    loader.registry.cache_clear()
    yield lambda seed=0, **options: RunConfig(
        "pilot-v1", "mortal", seed=seed, budget=500, algorithm_options=tuple(options.items())
    )
    monkeypatch.delenv(loader.FILES)
    loader.registry.cache_clear()


def quiet():
    return Console(file=io.StringIO(), width=200)


def told(console):
    return console.file.getvalue()


def test_a_worker_that_dies_takes_only_its_run_with_it(mortal, tmp_path):
    fatal = mortal(deaths=2, folder=str(tmp_path))
    console = quiet()
    done = run_all(
        [fatal, mortal(seed=1, fail=True), mortal(seed=2)],
        tmp_path / "runs",
        workers=1,
        console=console,
        checkpoint_seconds=0,
    )
    assert told(console).count("lost") == 1 and "1/3 runs done, 2 failed" in told(console)
    assert [failure.lost for failure in done.failures.values()] == [True, False]
    why = next(iter(done.failures.values())).text
    assert "worker process died 2 times" in why and "SIGKILL" in why
    state = run_state(resolve(fatal), tmp_path / "runs")
    assert state.failure == why and state.agent_steps > 0
    # It is resumed where it is, and done elsewhere without any interruption.
    resumed, calm = (
        run_all([fatal], folder, console=quiet(), executor=InProcessExecutor()).folders[0]
        for folder in (tmp_path / "runs", tmp_path / "calm")
    )
    assert read_result(resumed).timings.interruptions == 2
    assert read_result(resumed).digest() == read_result(calm).digest()
    name = "metrics.jsonl"
    assert (resumed / name).read_bytes() == (calm / name).read_bytes()


def test_in_process_a_failed_run_is_recorded_and_the_rest_goes_on(mortal, tmp_path):
    console = quiet()
    configs = [mortal(fail=True), mortal(seed=1), mortal(leave=True)]
    done = run_all(configs, tmp_path, console=console, executor=InProcessExecutor())
    labels = ["pilot-v1 mortal fail=true seed 0", "pilot-v1 mortal leave=true seed 0"]
    assert list(done.failures) == labels
    line = rf"failed {labels[0]} in \d+ s: ValueError: as told in two lines\n"
    assert re.search(line, told(console))
    states = [run_state(resolve(config), tmp_path) for config in configs]
    assert [state.kind for state in states] == ["failed", "done", "failed"]
    assert [state.failure for state in states[::2]] == [
        "ValueError: as told in two lines",
        "SystemExit: 3",
    ]


def test_a_signal_stops_in_process_runs_at_a_checkpoint(mortal, tmp_path):
    class Impatient(InProcessExecutor):
        def run(self, jobs, orders):
            tell = self.watch

            def watch(event):
                tell(event)
                os.kill(os.getpid(), signal.SIGTERM)

            self.watch = watch
            return super().run(jobs, orders)

    config = mortal()
    console = quiet()
    with pytest.raises(KeyboardInterrupt, match="0 of 1 runs are done"):
        run_all([config], tmp_path, console=console, executor=Impatient())
    assert "0/1 runs done, 1 stopped" in told(console)
    state = run_state(resolve(config), tmp_path)
    assert state.kind == "stopped" and 0 < state.agent_steps < 500
    done = run_all([config], tmp_path, console=quiet(), executor=InProcessExecutor())
    assert read_result(done.folders[0]).timings.interruptions == 1


def test_a_run_that_ends_while_all_are_stopped_counts_as_done(mortal, tmp_path):
    class Late:
        def run(self, jobs, orders):
            yield Began(0, "here")
            yield Began(1, "here")
            try:
                raise KeyboardInterrupt
            finally:
                work(jobs[0], orders, lambda *_: None, Stop())

    console = quiet()
    with pytest.raises(KeyboardInterrupt, match="1 of 2 runs are done"):
        run_all([mortal(), mortal(1)], tmp_path, console=console, executor=Late())
    assert "1/2 runs done, 1 stopped" in told(console)


def test_runs_to_be_done_again_stay_so_when_that_is_interrupted(mortal, tmp_path):
    class Never:
        def run(self, jobs, orders):
            raise KeyboardInterrupt
            yield

    configs = [mortal(), mortal(seed=1)]
    first = run_all(configs, tmp_path, console=quiet(), executor=InProcessExecutor())
    before = [(folder / "result.json").read_bytes() for folder in first.folders]
    with pytest.raises(KeyboardInterrupt):
        run_all(configs, tmp_path, console=quiet(), executor=Never(), again=True)
    assert [run_state(resolve(config), tmp_path).kind for config in configs] == ["stopped"] * 2
    done = run_all(configs, tmp_path, console=quiet(), executor=InProcessExecutor())
    assert done.folders == first.folders
    assert all(
        (folder / "result.json").read_bytes() != content
        for folder, content in zip(done.folders, before, strict=True)
    )


def test_one_run_asked_for_twice_is_done_once(mortal, tmp_path):
    config = mortal()
    sink = {"sink": "csv", "sink_options": (("folder", str(tmp_path / "csv")),)}
    twin = RunConfig(**{**vars(config), **sink})
    done = run_all([config, twin], tmp_path, console=quiet(), executor=InProcessExecutor())
    assert len(done.folders) == 1
    # What was killed while it made ready to do the run again does not stay.
    work = work_folder(tmp_path, resolve(config))
    work.mkdir()
    (work / ".attempt.json.1.tmp").touch()
    assert [execute(resolve(config), tmp_path)] == done.folders
    assert not work.exists()


@pytest.mark.slow
def test_workers_that_cannot_begin_are_told(tmp_path):
    script = "from peerwatt.runs.runner import run_all\n"
    script += "from peerwatt.runs.config import RunConfig\nfrom pathlib import Path\n"
    script += f"run_all([RunConfig('pilot-v1', 'zi-c')], Path({str(tmp_path)!r}))\n"
    (tmp_path / "unguarded.py").write_text(script)
    done = subprocess.run(
        [sys.executable, tmp_path / "unguarded.py"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "PeerWattError" in done.stderr and "if __name__ == '__main__'" in done.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("workers", 0), ("retries", -1), ("checkpoint_seconds", float("nan"))]
)
def test_bad_orders_are_refused(mortal, tmp_path, option, value):
    with pytest.raises(PeerWattError, match=rf"--{option.replace('_', '-')} {value} must be"):
        run_all([mortal()], tmp_path, **{option: value})


@pytest.mark.slow
def test_interrupted_then_status_then_resumed(mortal, tmp_path, capsys, monkeypatch):
    """The real command in its own process, with workers; Ctrl-C reaches all of them."""
    words = f"run --plugin {PLUGIN} --task pilot-v1 --algorithm mortal --algorithm.pause 0.2"
    words += " --budget 2k --seeds 2 --workers 1 --checkpoint-seconds 0"
    script = f"import sys; sys.argv = ['peerwatt', *{words.split()!r}]\n"
    script += "from peerwatt.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test runner in the background may ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 90
    while not list(tmp_path.rglob("checkpoint.npz")):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and "Traceback" not in err
    assert "0 of 2 runs are done; `peerwatt resume runs` goes on" in err

    monkeypatch.chdir(tmp_path)

    def peerwatt(*more):
        monkeypatch.setattr(sys, "argv", ["peerwatt", *more, "--plugin", str(PLUGIN)])
        main()
        return capsys.readouterr()

    content = json.loads(peerwatt("status", "runs", "--json").out)
    assert content["counts"] == {"done": 0, "running": 0, "stopped": 1, "failed": 0, "new": 1}
    assert 0 < content["runs"][0]["agent_steps"] < 2000
    out, err = peerwatt("resume", "--executor", "in-process")
    assert "2 runs: 1 to resume, 1 new" in err and "2/2 runs done" in err and "mortal" in out
    assert "2 runs: 2 done" in peerwatt("status").out


def test_status_tells_of_plans_whose_plugin_is_not_there(mortal, tmp_path, monkeypatch, capsys):
    configs = [mortal(fail=True), mortal(seed=1)]
    Plan("ours", tuple(configs)).save(tmp_path)
    run_all(configs, tmp_path, console=quiet(), executor=InProcessExecutor())
    monkeypatch.setenv(loader.FILES, "")
    loader.registry.cache_clear()
    monkeypatch.setattr(sys, "argv", ["peerwatt", "status", str(tmp_path)])
    main()
    out, err = capsys.readouterr()
    assert "holds no plan" not in out and f"--plugin {PLUGIN}" in err
    assert "2 runs of plan 'ours', not understood here" in out
    assert "1 done, 1 failed" in out and "seed-000: ValueError: as told in two lines" in out
    monkeypatch.setattr(sys, "argv", ["peerwatt", "status", str(tmp_path), "--json"])
    main()
    content = json.loads(capsys.readouterr().out)
    assert content["plans_not_understood"][0]["runs"] == 2
    assert content["unplanned"]["done"] == len(content["unplanned"]["failed"]) == 1


def test_labels_tell_configurations_apart(mortal):
    configs = [
        RunConfig("pilot-v1", "zi-c"),
        RunConfig("pilot-v1", "zi-c", mechanism="call"),
        mortal(),
        mortal(deaths=1),
        mortal(seed=5),
    ]
    labels = labels_of([resolve(config) for config in configs])
    assert len(set(labels)) == 5
    assert labels[1] == "pilot-v1 zi-c call seed 0" and labels[3].endswith("deaths=1 seed 0")


def test_the_live_table_shows_done_running_and_failed(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("peerwatt.runs.live.time.monotonic", lambda: clock[0])
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    view = LiveView(console, {0: ("one", 2_000_000), 1: ("two", 2_000_000), 2: ("three", 0)})
    with view:
        for index in range(3):
            view.take(Began(index, "process 7"))
        view.take(Played(0, 500_000, 0))
        clock[0] = 10.0
        view.take(Played(0, 1_000_000, 12))
        view.take(Ended(2, Failure("no [bold]way[/]", bad_input=True)))
        view.take(Lost(1, "killed by SIGKILL"))
        console.print(view._table())
    text = told(console)
    assert "1.00/2.00 M" in text and "50" in text and "20 s" in text and "process 7" in text
    assert "0/3 runs done, 1 running, 1 failed; 10 s, about 1 min 0 s left" in text
    assert "failed three in 10 s: no [bold]way[/]" in text
    assert "lost   two: killed by SIGKILL" in text


def test_without_a_terminal_progress_is_a_line_a_minute(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("peerwatt.runs.live.time.monotonic", lambda: clock[0])
    console = quiet()
    with LiveView(console, {i: (f"run {i}", 1000) for i in range(6)}) as view:
        for second in range(130):
            clock[0] = float(second)
            for index in range(6):
                view.take(Played(index, second, 0))
    lines = told(console).splitlines()
    assert len(lines) == 3 and lines[0].startswith("0/6 runs done, 6 running; 1 min 0 s")
    assert lines[0].endswith("and 2 more")


def test_durations_are_spoken():
    assert [spoken(x) for x in (0.4, 59.6, 200, 7500)] == [
        "0 s",
        "1 min 0 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
