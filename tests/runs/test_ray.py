"""Runs in a Ray cluster: the same bytes, whichever nodes are lost, and nothing left behind."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from ray_driver import config

from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import FILES
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.runs.executors import Job, Orders, gathering, ray_sweeper
from peerwatt.runs.executors.gathering import (
    FORGET,
    GO_ON,
    STOP,
    Luggage,
    Mailbox,
    News,
    packed,
    problem_with,
    unpack_work,
)
from peerwatt.runs.executors.ray import RayExecutor
from peerwatt.runs.store import read_result, run_folder, work_folder

HERE = Path(__file__).parent
HEAD, OTHER = "127.0.0.2", "127.0.0.3"
BUDGET = 500_000  # long enough that both nodes begin before one run is over
SEEDS = (0, 1)


def test_only_news_of_the_current_attempt_count():
    mailbox = Mailbox()
    assert mailbox.tell(News(0, 1, "a")) == FORGET
    mailbox.expect(0, 1)
    assert mailbox.tell(News(0, 1, "a", 10, work={"checkpoint.npz": b"1"})) == GO_ON
    assert mailbox.tell(News(0, 1, "a", 20)) == GO_ON
    assert mailbox.take() == [News(0, 1, "a", 20, work={"checkpoint.npz": b"1"})]
    assert mailbox.take() == []
    mailbox.tell(News(0, 1, "a", 30))
    mailbox.expect(0, 2)
    assert mailbox.take() == []
    assert mailbox.tell(News(0, 1, "a", 40)) == FORGET
    mailbox.stop()
    assert mailbox.tell(News(0, 2, "b")) == STOP


def test_folders_travel_whole(tmp_path):
    files = {"metrics.jsonl": b"{}\n", "checkpoint.npz": b"\0\1", "result.json": b"{}"}
    unpack_work(tmp_path / "work", files)
    assert packed(tmp_path / "work") == files
    assert packed(tmp_path / "work", ("metrics.jsonl", "absent")) == {"metrics.jsonl": b"{}\n"}


@pytest.mark.parametrize("name", ["../result.json", "/tmp/x", ".hidden", "a/b"])
def test_files_with_other_names_are_refused(tmp_path, name):
    with pytest.raises(PeerWattError, match="no file name"):
        unpack_work(tmp_path / "work", {name: b""})


def test_a_machine_says_why_it_cannot_execute_a_run():
    import pickle

    run = resolve(RunConfig("pilot-v1", "grid-only"))
    here = str(Path.cwd())
    assert problem_with([(pickle.dumps(run.config), run.config_hash)], {}, here) is None
    assert "another run" in problem_with([(pickle.dumps(run.config), "0" * 64)], {}, here)
    absent = RunConfig("absent.toml", "grid-only")
    assert "absent.toml" in problem_with([(pickle.dumps(absent), "")], {}, here)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cpus": 0.0}, "--run-cpus 0.0 must be more than 0"),
        ({"cpus": 1.5}, "must be whole"),
        ({"memory_gb": float("nan")}, "--run-memory nan must be more than 0"),
    ],
)
def test_impossible_resources_are_refused(options, sentence):
    with pytest.raises(PeerWattError, match=sentence):
        RayExecutor(**options)


def test_a_critic_that_asks_is_refused(tmp_path):
    asks = RunConfig(
        *("pilot-v1", "ippo", "openai-http"),
        critic_options=(("model", "m"), ("api_base", "http://127.0.0.1:1/v1")),
    )
    with pytest.raises(PeerWattError, match="asks a model"):
        next(RayExecutor().run([Job(0, asks, "")], Orders(results=tmp_path, workers=1)))


def begin(results, address, **options):
    """Start a command that executes a run for each of `SEEDS`; its noise goes to a file."""
    words = [sys.executable, HERE / "ray_driver.py", results, address, BUDGET, json.dumps(options)]
    with noise(results).open("a") as file:
        return subprocess.Popen(
            [str(word) for word in words],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,
        )


def noise(results):
    return results.with_name("noise.txt")


def all_events(results, address, **options):
    done, _ = begin(results, address, **options).communicate(timeout=240)
    assert noise(results).read_text() == ""
    return [json.loads(line) for line in done.splitlines()]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return a folder with the runs as this process executes them."""
    folder = tmp_path_factory.mktemp("reference")
    for seed in SEEDS:
        execute(resolve(config(seed, BUDGET)), folder)
    return folder


def assert_same(results, reference):
    for seed in SEEDS:
        run = resolve(config(seed, BUDGET))
        folder, other = run_folder(results, run), run_folder(reference, run)
        assert not list(folder.parent.glob(".*"))
        result = read_result(folder)
        assert result.files == read_result(other).files
        assert result.digest() == read_result(other).digest()
        for name in result.files:
            assert (folder / name).read_bytes() == (other / name).read_bytes()


def processes(mark):
    """Return process id -> command line of processes that have `mark` in it."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if mark in words:
                found[int(folder.name)] = words
    return found


def children(of):
    """Return the process ids of the children of a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == of:
                found.append(int(folder.name))
    return found


class TwoNodes:
    """A cluster of two nodes with one core each, on two addresses of the loopback interface."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind((HEAD, 0))
            # Below the ports that workers take.
            self.address = f"{HEAD}:{free.getsockname()[1] % 2000 + 6000}"
        common = ["--num-cpus", "1", "--object-store-memory", "100000000"]
        port = self.address.rpartition(":")[2]
        self._start(
            *("--head", "--port", port, "--node-ip-address", HEAD, *common),
            *("--include-dashboard", "false", "--temp-dir", folder),
        )
        self._start("--address", self.address, "--node-ip-address", OTHER, *common)

    def _start(self, *words):
        call = [Path(sys.executable).with_name("ray"), "start", *words]
        subprocess.run(call, check=True, capture_output=True, timeout=120)

    def kill(self, node):
        """Kill all processes of a node."""
        for raylet in processes(f"--node_ip_address={node}"):
            for process in [raylet, *children(raylet)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def close(self):
        """End all that is left."""
        for node in (OTHER, HEAD):
            self.kill(node)
        for process in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def left(self):
        """Return the processes that are left."""
        return processes(str(self.folder)) | processes(self.address)


@pytest.fixture
def two_nodes(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    folder = tempfile.mkdtemp(prefix="pw-", dir="/tmp")  # Ray's sockets want short paths
    cluster = None
    try:
        cluster = TwoNodes(folder)
        yield cluster
    finally:
        if cluster is not None:
            cluster.close()
            until = time.monotonic() + 30
            while cluster.left() and time.monotonic() < until:
                time.sleep(0.2)
            assert not cluster.left()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_cluster_of_its_own_is_interrupted_goes_on_and_leaves_nothing(tmp_path, reference):
    pytest.importorskip("ray")
    results = tmp_path / "ray"
    before = set(Path("/tmp").glob("pw-ray-*"))
    command = begin(results, "")
    for line in command.stdout:
        if json.loads(line)[0] == "Played" and list(results.rglob(".*.work/checkpoint.npz")):
            break
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does
    rest = [json.loads(line) for line in command.stdout]
    assert rest[-1] == ["Interrupted"]
    assert command.wait(60) == 0
    events = all_events(results, "")
    assert sorted(e[1] for e in events if e[0] == "Began") == [0, 1]
    assert not [e for e in events if e[0] == "Lost"]
    assert sorted(e[1:] for e in events if e[0] == "Ended") == [[0, None], [1, None]]
    assert_same(results, reference)
    made = set(Path("/tmp").glob("pw-ray-*")) - before
    assert not made
    assert not processes("pw-ray-")


@pytest.mark.slow
def test_a_node_is_killed_in_the_middle_and_the_bytes_are_the_same(tmp_path, two_nodes, reference):
    results = tmp_path / "ray"
    ((kind, sentence),) = all_events(results, two_nodes.address, cpus=2.0)
    assert kind == "Refused"
    assert "no node of the Ray cluster has room for a run that asks for 2 CPUs" in sentence
    command = begin(results, two_nodes.address)
    events, killed = [], False
    for line in command.stdout:
        events.append(json.loads(line))
        on_other = [e[1] for e in events if e[0] == "Began" and OTHER in e[2]]
        if on_other and not killed and events[-1][:2] == ["Played", on_other[0]]:
            work = work_folder(results, resolve(config(on_other[0], BUDGET)))
            if (work / "checkpoint.npz").exists():
                two_nodes.kill(OTHER)
                killed = True
    assert command.wait(60) == 0
    assert noise(results).read_text() == ""
    assert killed
    assert [e[1:] for e in events if e[0] == "Lost"] == [[on_other[0], "its node is gone"]]
    assert sorted(e[1:] for e in events if e[0] == "Ended") == [[0, None], [1, None]]
    at_loss = events.index(next(e for e in events if e[0] == "Lost"))
    steps = [e[2] for e in events[at_loss:] if e[:2] == ["Played", on_other[0]]]
    assert steps[0] > min(e[2] for e in events if e[:2] == ["Played", on_other[0]])
    assert_same(results, reference)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:10001", "silent"])
def test_a_wrong_address_is_told_soon(tmp_path, address, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr("peerwatt.runs.executors.ray_cluster.CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        if address == "silent":
            address = f"127.0.0.1:{server.getsockname()[1]}"
        refused(tmp_path, address)


def refused(results, address):
    job = Job(0, RunConfig("pilot-v1", "grid-only"), "")
    with pytest.raises(PeerWattError) as caught:
        next(RayExecutor(address).run([job], Orders(results=results, workers=1)))
    assert address in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
def test_an_address_of_something_else_is_told_soon(tmp_path):
    pytest.importorskip("ray")

    def answer(server):
        with server.accept()[0] as connection:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        sentence = refused(tmp_path, f"127.0.0.1:{server.getsockname()[1]}")
    assert "no head of a Ray cluster" in sentence


def test_what_uses_the_folder_of_a_cluster_goes_with_the_command(tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    with (folder / "log").open("w") as log, (tmp_path / "log").open("w") as other:
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        agent, stranger = (subprocess.Popen(sleep, stdout=file) for file in (log, other))
        words = [sys.executable, ray_sweeper.__file__, folder, str(os.getpid())]
        with subprocess.Popen(words, stdin=subprocess.PIPE) as sweeper:
            time.sleep(0.2)
            assert sweeper.poll() is agent.poll() is None
    assert agent.wait(5) == -signal.SIGKILL
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
    assert not folder.exists()


def test_a_plugin_that_is_there_already_is_not_copied(tmp_path, monkeypatch):
    monkeypatch.setenv(FILES, "")
    same, absent = tmp_path / "same.py", tmp_path / "absent.py"
    same.write_text("SAME = 1\n")
    gathering._install.__wrapped__(((str(same), "SAME = 1\n"), (str(absent), "ABSENT = 1\n")))
    first, second = (Path(file) for file in os.environ[FILES].split(os.pathsep))
    assert first == same
    assert second.name == "absent.py"
    assert second.read_text() == "ABSENT = 1\n"
    shutil.rmtree(second.parent)


def test_without_ray_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    job = Job(0, RunConfig("pilot-v1", "grid-only"), "")
    with pytest.raises(PeerWattError, match=r"pip install 'peerwatt\[ray\]'"):
        next(RayExecutor().run([job], Orders(results=tmp_path, workers=1)))


def test_the_luggage_of_a_run_can_be_pickled():
    import pickle

    luggage = Luggage(0, 1, b"", "", False, 60.0, {"a": b"b"}, {}, "/")
    assert pickle.loads(pickle.dumps(luggage)) == luggage
