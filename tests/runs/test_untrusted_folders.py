"""Results folders of strangers: nothing is waited for, followed out of them, or believed."""

import hashlib
import io
import json
import os
import shutil
import signal
import struct
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from peerwatt.cli.status import run as status
from peerwatt.errors import PeerWattError
from peerwatt.fairness import Shaping
from peerwatt.runs import plan as plans
from peerwatt.runs.checkpoint import CHECKPOINT_FILE, pack
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.runs.files import write_whole
from peerwatt.runs.locks import lock_file
from peerwatt.runs.plan import PLANS, Plan, read_plans, readable_plans
from peerwatt.runs.resume import Checkpoints
from peerwatt.runs.state import run_state
from peerwatt.runs.store import RESULT_FILE, run_folder, work_folder
from peerwatt.runs.training import TrainingRun
from peerwatt.runs.untrusted import read_small
from peerwatt.runs.work import ATTEMPT_FILE, FAILURE_FILE, publish
from peerwatt_leaderboard.report.missing import resolved, unfinished

CONFIG = RunConfig("pilot-v1", "zi-c")
FILES = ("metrics.jsonl", "clock.jsonl", "critic.jsonl")
TRAINING = {
    "markets": [],
    "generator": {},
    "curve": [],
    "evaluation_seconds": 0.0,
    "seconds": 2.0,
}
STATE = {
    "algorithm": {},
    "agent_steps": 5,
    "critic": None,
    "training": TRAINING,
    "fingerprint": {"seed": 0},
    "files": dict.fromkeys(FILES, 0),
    "spent": {"wall": 1.0, "cpu": 1.0},
}
DEEP = b"[" * 100_000

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")


@pytest.fixture(autouse=True)
def never_waits():
    def hangs(*_):
        raise TimeoutError("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def run():
    return resolve(CONFIG)


@pytest.fixture
def results(tmp_path, run):
    """A folder with a plan and the work folder of its one run, which was stopped."""
    results = tmp_path / "results"
    work = work_folder(results, run)
    work.mkdir(parents=True)
    Plan("x", (CONFIG,)).save(results)
    attempt = {"again": False, "config_hash": run.config_hash, "started": "", "begun": 1}
    (work / ATTEMPT_FILE).write_text(json.dumps({"id": "0" * 32, **attempt}))
    (work / CHECKPOINT_FILE).write_bytes(pack(STATE))
    for name in FILES[:2]:
        (work / name).touch()
    lock_file(results, run).parent.mkdir()
    lock_file(results, run).touch()
    return results


def signed(members, kind=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue() + hashlib.sha256(buffer.getvalue()).hexdigest().encode()


def tree(content):
    buffer = io.BytesIO()
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    np.save(buffer, np.frombuffer(text, np.uint8))
    return buffer.getvalue()


def header(shape, kind="<f8"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


ONE = {"dict": {"a": {"array": "0"}}}


@pytest.mark.parametrize(
    "data",
    [
        signed({"tree": tree(ONE), "0": header((10**13,))}),
        signed({"tree": tree(ONE), "0": header((10**9,)) + bytes(8)}),
        signed({"tree": tree(ONE), "0": header((8,), "|O") + b"cos\nsystem\n."}),
        signed({"tree": tree(ONE), "0": tree([0] * 9999)}, zipfile.ZIP_DEFLATED),
        signed({"tree": tree(ONE), "0": signed({})}),
        signed({"tree": tree({"dict": {"a": {"array": "0"}, "b": {"array": "0"}}}), "0": tree(0)}),
        signed({"tree": tree({"dict": {"a": {"array": [1]}}})}),
        signed({"tree": tree({"array": "1", "bytes": "2"})}),
        signed({"tree": tree([1, 2])}),
        signed({"tree": tree(DEEP)}),
        signed({}),
        pack({key: value for key, value in STATE.items() if key != "files"}),
        pack(STATE | {"files": {"../../x": 1}}),
        pack(STATE | {"files": {}}),
        pack(STATE | {"files": STATE["files"] | {"metrics.jsonl": -5}}),
        pack(STATE | {"agent_steps": "x"}),
        pack(STATE | {"spent": {"wall": float("nan"), "cpu": 1.0}}),
        pack(STATE | {"training": TRAINING | {"markets": {}}}),
        pack(STATE | {"fingerprint": {"seed": np.arange(3)}}),
        pack(STATE | {"fingerprint": 3}),
    ],
)
def test_a_checkpoint_that_somebody_made_up_is_not_gone_on_with(results, run, data):
    work = work_folder(results, run)
    (work / CHECKPOINT_FILE).write_bytes(pack(STATE))
    assert Checkpoints(work, STATE["fingerprint"], 60).kept == STATE
    assert run_state(run, results).agent_steps == 5
    (work / CHECKPOINT_FILE).write_bytes(data)
    checkpoints = Checkpoints(work, STATE["fingerprint"], 60)
    assert checkpoints.kept is None
    (note,) = checkpoints.notes
    assert note.startswith("the checkpoint") and note.endswith("the run begins anew")
    assert run_state(run, results).kind == "stopped"


@pytest.mark.parametrize(
    "wrong", [{"markets": [{"x": 1}]}, {"curve": [{"x": 1}]}, {"generator": {"spawned": "x"}}]
)
def test_what_cannot_be_put_in_place_names_the_way_out(run, wrong):
    kept = {**STATE, "training": {**TRAINING, **wrong}}
    training = TrainingRun(
        run.task,
        seed=0,
        budget=100,
        critic=None,
        shaping=Shaping(),
        checkpoints=SimpleNamespace(kept=kept, cut=lambda: None),
    )
    if "markets" in wrong:
        training.envs(1)
    with pytest.raises(PeerWattError, match=r"cannot go on from its checkpoint: .*--again"):
        training.resume()


def test_a_checkpoint_that_would_not_be_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("peerwatt.runs.resume.MAX_CHECKPOINT_BYTES", 100)
    checkpoints = Checkpoints(tmp_path, {}, 60)
    checkpoints.save({"algorithm": {}})
    assert "bytes are more than 100" in checkpoints.notes[0]
    assert not list(tmp_path.iterdir())


def pipe(file):
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def endless(file):
    file.unlink(missing_ok=True)
    file.symlink_to("/dev/zero")


def deep(file):
    file.write_bytes(DEEP + b"\n")


@pytest.mark.parametrize("damage", [pipe, endless, deep])
@pytest.mark.parametrize(
    "name",
    [ATTEMPT_FILE, FAILURE_FILE, RESULT_FILE, CHECKPOINT_FILE, "clock.jsonl", "lock", "plan"],
)
def test_status_and_report_get_over_files_that_are_none(results, run, capsys, name, damage):
    work = work_folder(results, run)
    places = {"lock": lock_file(results, run), "plan": results / PLANS / "a.json"}
    damage(places.get(name, work / name))
    status([str(results), "--json"])
    told = capsys.readouterr()
    (one,) = json.loads(told.out)["runs"]
    assert one["state"] == ("new" if name == ATTEMPT_FILE else "stopped")
    assert ("warning" in told.err) == (name == "plan")
    runs, unknown = resolved(results)
    assert len(runs) == 1 and len(unknown) == (name == "plan")
    assert len(unfinished(results, [], runs)) == 1
    if name == "plan":
        with pytest.raises(PeerWattError, match=r"a\.json.*remove it"):
            read_plans(results)


@pytest.mark.parametrize(
    "line", ['{"agent_steps": 1e999, "seconds": 1}', '{"agent_steps": 1, "seconds": NaN}', "[]", ""]
)
def test_a_clock_that_tells_nonsense_tells_nothing(results, run, line):
    (work_folder(results, run) / "clock.jsonl").write_text(line + "\n")
    (work_folder(results, run) / FAILURE_FILE).write_text(
        '{"text": "", "bad_input": false, "when": ""}'
    )
    assert run_state(run, results).kind == "failed"


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "clock.jsonl", "critic.jsonl", "deep/er", "", "lock"]
)
def test_nothing_is_written_through_a_link(results, run, tmp_path, name):
    work = work_folder(results, run)
    outside = tmp_path / "outside"
    shutil.copytree(work, outside) if not name else outside.write_text("precious\n" * 99)
    before = sorted(outside.iterdir()) if not name else outside.read_text()
    place = lock_file(results, run) if name == "lock" else work / name
    place.parent.mkdir(exist_ok=True)
    shutil.rmtree(work) if not name else place.unlink(missing_ok=True)
    place.symlink_to(outside)
    with pytest.raises(PeerWattError, match=r"is a link|no regular file"):
        execute(run, results)
    assert before == (sorted(outside.iterdir()) if not name else outside.read_text())


def test_a_finished_run_behind_a_link_is_not_published(tmp_path, run):
    folder = execute(run, tmp_path)
    work = work_folder(tmp_path, run)
    outside = tmp_path / "outside"
    folder.rename(outside)
    (outside / FAILURE_FILE).touch()
    work.symlink_to(outside)
    assert not publish(run, tmp_path)
    assert (outside / FAILURE_FILE).exists()
    work.unlink()
    outside.rename(folder)
    (folder / "metrics.jsonl").rename(tmp_path / "metrics")
    (folder / "metrics.jsonl").symlink_to(tmp_path / "metrics")
    assert run_state(run, tmp_path).kind == "done"  # it only looks at the record
    assert run_folder(tmp_path, run) == folder
    folder.rename(work)
    assert not publish(run, tmp_path)


def test_drafts_follow_no_link(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (tmp_path / f".file.{os.getpid()}.tmp").symlink_to(outside)
    write_whole(tmp_path / "file", b"new")
    assert outside.read_text() == "precious" and (tmp_path / "file").read_bytes() == b"new"


def test_small_files_are_small(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(10))
    assert read_small(file, 10) == bytes(10)
    with pytest.raises(PeerWattError, match="more than the 9 bytes"):
        read_small(file, 9)
    with pytest.raises(PeerWattError, match=r"cannot be read .No such file"):
        read_small(tmp_path / "nowhere")


def test_a_plan_holds_each_run_once_and_not_too_many(tmp_path, monkeypatch):
    file = Plan("x", (CONFIG,)).save(tmp_path)
    content = json.loads(file.read_text())
    content["entries"] *= 3
    file.write_text(json.dumps(content))
    assert read_plans(tmp_path)[0].configs == (CONFIG,)
    monkeypatch.setattr(plans, "MOST_RUNS", 2)
    found, (problem,) = readable_plans(tmp_path)
    assert not found and "3 runs are more than the 2 that a plan may have" in problem
    with pytest.raises(PeerWattError, match="3 runs are more than the 2"):
        Plan("x", (CONFIG,) * 3).save(tmp_path)
