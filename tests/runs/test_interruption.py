"""Stopping in the middle: quick, nothing half-written, nobody left behind, and it resumes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peerwatt.errors import PeerWattError
from peerwatt.runs.store import written_at_once

LINE = "run --task pilot-v1 --seeds 2 --workers 2 --budget 500M --validations 0"
ENDLESS = f"--algorithm endless --plugin {Path(__file__).parent / 'endless.py'}"
IPPO = "--algorithm ippo --algorithm.num-envs 4 --algorithm.rollout-slots 24 --algorithm.hidden 8"


@pytest.fixture
def training(request, tmp_path):
    """A `peerwatt run` whose two workers are in the middle of training."""
    words = [*LINE.split(), *request.param.split()]
    script = f"import sys; sys.argv = ['peerwatt', *{words!r}]\n"
    script += "from peerwatt.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A test runner in the background may ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 90
    while len(busy(tmp_path)) < 2:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield process
    process.kill()
    process.wait()


def busy(folder):
    return [f for f in Path(folder).rglob(".seed-*.work/metrics.jsonl") if f.stat().st_size]


def workers_of(folder):
    """Processes that are at a run below `folder`."""
    pids = {json.loads(lock.read_text())["pid"] for lock in Path(folder).rglob("*.lock")}
    return {pid for pid in pids if alive(pid)}


def left(folder):
    """Files of finished runs, and checkpoints."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    finished = [path for path in files if path.parent.name.startswith("seed-")]
    return finished, [path for path in files if path.name == "checkpoint.npz"]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("training", "signum"),
    [
        (ENDLESS, signal.SIGINT),
        pytest.param(IPPO, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(IPPO, signal.SIGTERM, marks=pytest.mark.slow),
    ],
    indirect=["training"],
    ids=["SIGINT", "ippo SIGINT", "ippo SIGTERM"],
)
def test_interrupt_ends_soon_and_leaves_what_can_be_gone_on_with(
    training, tmp_path, request, signum
):
    pids = workers_of(tmp_path)
    assert len(pids) == 2
    training.send_signal(signum)
    assert training.wait(timeout=15) == 130
    assert "interrupted" in training.stderr.read()
    assert not any(alive(pid) for pid in pids)
    saves = "ippo" in request.node.callspec.id
    finished, checkpoints = left(tmp_path / "runs")
    assert not finished and len(checkpoints) == (2 if saves else 0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("training", [ENDLESS], indirect=True, ids=["endless"])
def test_workers_do_not_outlive_a_killed_parent(training, tmp_path):
    pids = workers_of(tmp_path)
    training.kill()
    deadline = time.monotonic() + 15
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert left(tmp_path / "runs") == ([], [])


def write(folder, text):
    with written_at_once(folder) as draft:
        (draft / "file").write_text(text)


def test_what_killed_processes_left_is_cleared_or_restored(tmp_path):
    folder = tmp_path / "seed-000"
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / f".seed-000-{gone.pid}-abc").mkdir()
    (tmp_path / f".seed-000-{os.getpid()}-abc").mkdir()  # somebody is at work there
    old = tmp_path / f".seed-000-{gone.pid}-abd-old"
    old.mkdir()
    (old / "file").write_text("killed between the two renames")
    with pytest.raises(RuntimeError), written_at_once(folder):
        assert (folder / "file").read_text() == "killed between the two renames"
        raise RuntimeError("the new run fails")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f".seed-000-{os.getpid()}-abc",
        "seed-000",
    ]
    write(folder, "new")
    assert (folder / "file").read_text() == "new"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "pilot-v1").touch()
    with pytest.raises(PeerWattError, match=r"cannot write .*pilot-v1.*--results"):
        write(tmp_path / "pilot-v1" / "entry" / "seed-000", "x")
