"""Offline runs of W&B are read back from their files and hold just what the run's folder says."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from peerwatt.errors import PeerWattError
from peerwatt.evaluation import METRICS
from peerwatt.plugins.loader import build, find
from peerwatt.runs.sinks import QueuedSink, tell
from peerwatt.runs.store import read_result
from peerwatt.runs.summary import run_values

pytest.importorskip("wandb")
from peerwatt_sinks import wandb_run
from peerwatt_sinks.naming import FAIRNESS, tracked, tracked_name

NO_SERVER = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE")


@pytest.fixture(scope="module", autouse=True)
def apart(tmp_path_factory):
    """Nobody's settings, keys or caches take part."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        for name in NO_SERVER:
            patch.delenv(name, raising=False)
        patch.setenv("NETRC", str(home / "netrc"))
        for name in ("CACHE", "CONFIG", "DATA"):
            patch.setenv(f"WANDB_{name}_DIR", str(home))
        yield home


# A module that Python imports when it starts: it notes who reaches for the network, and refuses.
GUARD = """
import os, socket
def guard(name):
    usual = getattr(socket.socket, name)
    def guarded(self, *arguments):
        address = arguments[-1]
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            with open(os.environ["REACHED"], "a") as file:
                print(name, address, file=file)
            raise OSError("no network")
        return usual(self, *arguments)
    setattr(socket.socket, name, guarded)
for name in ("connect", "connect_ex", "sendto"):
    guard(name)
def refuse(*arguments, **options):
    with open(os.environ["REACHED"], "a") as file:
        print("look-up", arguments, file=file)
    raise OSError("no network")
socket.getaddrinfo = socket.gethostbyname = refuse
"""

RUN = """
import sys
from pathlib import Path
from test_sinks import Reporting
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.testing.communities import SIZES, write_card
import dataclasses
if __name__ == "__main__":
    options = (("folder", Path("tracked")), ("tags", ("mine",)), ("project", "power"))
    card = write_card(Path(), SIZES[1])
    run = resolve(RunConfig(task=str(card), algorithm="zi-c", validations=2, sink="wandb",
                            sink_options=options))
    run = dataclasses.replace(run, algorithm=Reporting(run.algorithm), budget=40)
    execute(run, Path("results"))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make a tracked run where nobody reaches the network; return its folder."""
    folder = tmp_path_factory.mktemp("wandb")
    guard = folder / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{guard}{os.pathsep}{Path(__file__).parent}",
        "REACHED": str(folder / "reached"),
    }
    command = [sys.executable, "-c", RUN]
    if strace := shutil.which("strace"):
        calls = "trace=connect,sendto,sendmsg,sendmmsg"
        command = [
            *(strace, "-f", "-qq", "--seccomp-bpf", "-e", calls, "-o", str(folder / "calls")),
            *command,
        ]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder


def result_of(made):
    (run,) = (made / "results").glob("*/*/seed-000")
    return run, read_result(run)


def records(folder):
    """Yield the records of the one offline run in `folder`: blocks of a LevelDB log."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.rglob("*.wandb")
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    place, whole = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole = (b"" if kind in (1, 2) else whole) + data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(whole)
            yield record


def plain(items):
    """Return what (possibly nested) keys and JSON values say."""
    return {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}


def offline(folder):
    """Return the run, its history and its summary."""
    everything = list(records(folder))
    (run,) = [r.run for r in everything if r.HasField("run")]
    history = [plain(r.history.item) for r in everything if r.HasField("history")]
    summary = {}
    for record in everything:
        if record.HasField("summary"):
            summary |= plain(record.summary.update)
    return run, history, summary, everything


def test_the_history_is_that_of_metrics_jsonl(made):
    run, _ = result_of(made)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    clock = (run / "clock.jsonl").read_text().splitlines()
    told = [{**json.loads(a), **json.loads(b)} for a, b in zip(lines, clock, strict=True)]
    _, history, _, _ = offline(made / "tracked")
    assert len(history) == len(told) + 1  # one per report, and the tables at the end
    for entry, row in zip(history, told, strict=False):
        seen = {name: value for name, value in entry.items() if not name.startswith("_")}
        assert seen == tracked(row)
    assert {"charts/reward", "eval/welfare", "fairness/ftg", "global_step"} <= history[0].keys()
    assert "charts/undefined" not in history[0]


def test_the_configuration_is_that_of_the_result(made):
    _, result = result_of(made)
    record = result.model_dump(mode="json")
    run, _, _, _ = offline(made / "tracked")
    config = {i.key: json.loads(i.value_json) for i in run.config.update}
    del config["_wandb"]
    assert config.pop("env_id") == record["task"]["name"]
    assert config.pop("exp_name") == record["algorithm"]["name"]
    assert config.pop("task_hash") == record["task"]["content_hash"]
    assert config.pop("resumed") == 0
    assert config == {key: record[key] for key in config}
    assert {"mechanism", "critic", "shaping", "seed", "budget", "config_hash"} <= config.keys()
    assert (run.project, run.run_group, run.job_type) == (
        "power",
        "conformance-2-storage-v1/zi-c",
        "train",
    )
    code, own = run.tags
    assert own == "mine"
    assert re.fullmatch(r"v\d.*|.*[0-9a-f]{7}.*", code)
    assert not run.host and not run.git.remote_url


def test_the_summary_and_the_tables_are_those_of_the_result(made):
    _, result = result_of(made)
    _, history, summary, everything = offline(made / "tracked")
    measures = {k: v for k, v in summary.items() if re.fullmatch("test/[^/]*", k)}
    assert measures == {f"test/{name}": value for name, value in run_values(result).items()}
    table = json.loads(next((made / "tracked").rglob("measures_*.table.json")).read_text())
    assert dict(table["data"]) == run_values(result)
    table = json.loads(next((made / "tracked").rglob("episodes_*.table.json")).read_text())
    assert [row[1] for row in table["data"]] == result.test.cost
    assert history[-1]["global_step"] == result.agent_steps
    shown = {"/".join(key.split("/")[:2]) for key in history[-1]}
    assert {"test/measures", "test/episodes"} <= shown
    assert {"eval/learning_curve_table", "test/savings_table"} <= shown
    (metric,) = [r.metric for r in everything if r.HasField("metric") and r.metric.glob_name]
    assert (metric.glob_name, metric.step_metric) == ("*", "global_step")


def test_result_and_policy_are_artifacts(made):
    run, result = result_of(made)
    *_, everything = offline(made / "tracked")
    told = [r.artifact for r in everything if r.HasField("artifact")]
    told += [r.request.log_artifact.artifact for r in everything if r.HasField("request")]
    files = {
        (artifact.type, entry.path): Path(entry.local_path).read_bytes()
        for artifact in told
        if artifact.type in ("result", "policy")
        for entry in artifact.manifest.contents
    }
    assert files.keys() == {
        ("result", "result.json"), ("result", "metrics.jsonl"), ("policy", "policy.json"),
    }  # fmt: skip
    assert files["policy", "policy.json"] == (run / "policy.json").read_bytes()
    assert json.loads(files["result", "result.json"]) == result.model_dump(mode="json")
    assert not result.notes


def test_offline_nobody_reaches_for_the_network(made):
    assert not (made / "reached").exists()
    if not (made / "calls").exists():
        pytest.skip("no strace, which sees other programs than Python, too")
    calls = (made / "calls").read_text()
    assert "AF_UNIX" in calls  # it does see W&B's own program
    local = r"127\.0\.0\.1|\"::1\"|htons\(0\)"
    reached = [c for c in calls.splitlines() if "AF_INET" in c and not re.search(local, c)]
    assert reached == []


def test_a_run_told_twice_has_one_id_and_attempts_have_others(made):
    run = {"config_hash": "ab", "seed": 1}
    ids = [wandb_run._run_id({**run, "attempt": attempt}) for attempt in ("x-1", "x-1", "x-2")]
    assert ids[0] == ids[1] != ids[2]
    assert wandb_run._run_id(run) != wandb_run._run_id(run)


def test_a_run_that_fails_is_told_so(tmp_path, made):
    head = {**read_result(result_of(made)[0]).model_dump(mode="json"), "files": ""}
    sink = QueuedSink("wandb", wandb_run.WandbSink(folder=tmp_path))
    sink.start(head)
    sink.log({"agent_steps": 4, "reward": 0.5})
    sink.finish(None)
    sink._thread.join()
    assert not sink.notes
    (exit_code,) = [r.exit.exit_code for r in records(tmp_path) if r.HasField("exit")]
    assert exit_code == 1


@pytest.mark.parametrize(
    ("variables", "netrc", "options", "mode"),
    [
        ({}, "", {}, "offline"),
        ({"WANDB_API_KEY": "x" * 40}, "", {}, "online"),
        ({}, "machine api.wandb.ai login user password secret", {}, "online"),
        ({}, "machine example.org login user password secret", {}, "offline"),
        (
            {"WANDB_BASE_URL": "https://example.org/"},
            "machine example.org password x",
            {},
            "online",
        ),
        ({}, "machine\nmachine {", {}, "offline"),
        ({"WANDB_API_KEY": "x" * 40, "WANDB_MODE": "offline"}, "", {}, "offline"),
        ({"WANDB_API_KEY": "x" * 40}, "", {"mode": "offline"}, "offline"),
        ({"WANDB_MODE": "offline"}, "", {"mode": "online"}, "online"),
    ],
)
def test_it_is_offline_unless_the_user_is_logged_in_or_says_so(
    tmp_path, monkeypatch, variables, netrc, options, mode
):
    (tmp_path / "netrc").write_text(netrc)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    sink = build("sink", find("sink", "wandb"), options)
    assert sink._mode == mode
    assert sink.destination().startswith("http" if mode == "online" else "offline ")
    assert sink.outcome().startswith("the runs are at http" if mode == "online" else "not logged")


def test_a_missing_wandb_is_told_before_anything_runs(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    monkeypatch.delitem(sys.modules, "peerwatt_sinks.wandb_run")
    with pytest.raises(PeerWattError) as caught:
        build("sink", find("sink", "wandb"), {})
    assert str(caught.value) == (
        "'wandb' needs the module 'wandb', which is not installed: pip install 'peerwatt[wandb]'."
    )


def test_an_old_wandb_is_told_before_anything_runs(monkeypatch):
    monkeypatch.setattr(wandb_run, "VERSION", wandb_run.Version("0.12.1"))
    with pytest.raises(PeerWattError, match=r"wandb 0\.12\.1 is too old .* pip install --upgrade"):
        build("sink", find("sink", "wandb"), {})


def test_a_wandb_that_raises_is_noted(made, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    run, result = result_of(made)
    sink = wandb_run.WandbSink(folder=tmp_path / "x", project="no/such/name")
    (note,) = tell(run, "wandb", sink, result.model_dump(mode="json"))
    assert note.startswith("sink 'wandb' failed in start and was left out from there: UsageError")


def test_names():
    assert METRICS.keys() >= FAIRNESS
    assert {name: tracked_name(name) for name in NAMES} == NAMES
    assert tracked({"agent_steps": 10, "seconds": 4.0, "x": None}) == {
        "global_step": 10, "charts/seconds": 4.0, "charts/SPS": 2.5,
    }  # fmt: skip
    assert tracked({"seconds": 0.0}) == {"charts/seconds": 0.0} and tracked({}) == {}


NAMES = {
    "agent_steps": "global_step",
    "reward": "charts/reward",
    "learning_rate": "charts/learning_rate",
    "policy_loss": "losses/policy_loss",
    "critic_loss": "losses/critic_loss",
    "entropy": "losses/entropy",
    "approximate_kl": "losses/approximate_kl",
    "share_clipped": "losses/share_clipped",
    "critic_ftg": "critic/ftg",
    "critic_bonus": "critic/bonus",
    "validation_welfare": "eval/welfare",
    "validation_fpp": "fairness/fpp",
    "validation_p2p_ratio": "market/p2p_ratio",
}
