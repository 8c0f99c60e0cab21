"""A Ray cluster for the length of a command: one of this machine's own, or one that there is."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peerwatt.errors import PeerWattError, shown, told
from peerwatt.runs.executors import ray_sweeper
from peerwatt.runs.executors.variables import variables_set

CONNECT_SECONDS = 5.0
"""Time for an address to answer at all."""
JOIN_SECONDS = 30.0
"""Time for joining a cluster; where there is none, Ray itself would try for many minutes."""
NODE_SECONDS = 120.0
"""Time for a node to say what is installed on it: its first worker process has to be started."""
OBJECT_STORE_BYTES = 150_000_000
"""Memory for what travels in a cluster of our own: checkpoints and results, a few MB each."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns that it will be the default
}
_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""Empty frame of HTTP/2 by which both sides begin; byte 3 is its type (RFC 9113, 3.4 and 4.1)."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, or what Ray takes for one."""

    id: str
    address: str
    cpus: float
    memory: float
    """Bytes that runs may ask for."""


@contextlib.contextmanager
def cluster(address: str | None, cpus: int) -> Iterator[Any]:
    """Yield Ray, connected to the cluster at `address`, or to one of `cpus` made for the block.

    A cluster of our own speaks on loopback only, has no dashboard, and is gone after the block, or
    after this process, with the temporary folder that it keeps its files in. A process that is
    connected already stays so.

    Raises:
        PeerWattError: Ray is not installed, or there is no cluster that can be joined.
    """
    own = {} if address is not None else {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    with variables_set(_QUIET | own):
        try:
            import ray
        except ImportError as error:
            raise PeerWattError(
                f"--executor ray needs Ray ({shown(str(error), 100)}): pip install 'peerwatt[ray]'."
            ) from None
        if ray.is_initialized():
            yield ray
            return
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        with contextlib.ExitStack() as stack:
            with _signals_kept():
                if address is None:
                    folder = stack.enter_context(_swept())
                    stack.callback(ray.shutdown)
                    _start(ray, cpus, folder)
                else:
                    stack.callback(ray.shutdown)
                    _join(ray, address)
            # Ray prints pages about lost nodes, which the executor tells in a line; there is no
            # public switch. Where this one is gone, they are printed.
            ray._private.worker._worker_logs_enabled = False
            yield ray


@contextlib.contextmanager
def _swept() -> Iterator[str]:
    """Yield a temporary folder that goes, with all that use it, after the block or this process.

    That is up to a process of its own, for this one may be killed.
    """
    folder = tempfile.mkdtemp(prefix="pw-ray-", dir="/tmp")  # Ray's sockets want short paths
    script = str(Path(ray_sweeper.__file__))
    sweeper = subprocess.Popen(
        [sys.executable, "-I", "-S", script, folder, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the command
    )
    with sweeper:  # its end closes the sweeper's input, and waits
        yield folder


def _start(ray: Any, cpus: int, folder: str) -> None:
    # The token keeps other users of this machine out, and Ray from making one in the home folder.
    token = {} if "RAY_AUTH_TOKEN" in os.environ else {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        with variables_set(_QUIET | {"TMPDIR": folder, **token}):
            ray.init(
                address="local",
                num_cpus=cpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
    except Exception as error:
        raise PeerWattError(
            f"Ray cannot be started on this machine ({told(error, 200)}): --executor processes "
            "does without."
        ) from None


def _join(ray: Any, address: str) -> None:
    if "://" in address:
        raise PeerWattError(
            f"--address {shown(address, 100)} is a client's: run the command on a machine of the "
            "cluster, and name its head as HOST:PORT, or auto."
        )
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:
        raise _unjoinable(address, told(error, 400)) from None


def _check_reachable(address: str) -> None:
    """Have another process join the cluster first, for one that waits in vain can be killed."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            answer = _greeting(host.strip("[]"), int(port))
        except (ValueError, OverflowError):
            raise PeerWattError(
                f"--address {shown(address, 100)} must be HOST:PORT of the head of a Ray cluster, "
                "such as 10.0.0.1:6379, or auto."
            ) from None
        except OSError as error:
            raise _unjoinable(address, error.strerror or str(error)) from None
        if answer[3:4] != _SETTINGS[3:4]:
            raise _unjoinable(address, "what answers there is no head of a Ray cluster")
    script = (
        "import logging, sys, ray\n"
        "try:\n"
        "    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)\n"
        "except Exception as error:\n"
        "    sys.stdout.write(f'{type(error).__name__}: {error}')\n"
        "    sys.exit(1)\n"
    )
    call = [sys.executable, "-c", script, address]
    try:
        done = subprocess.run(
            call,
            capture_output=True,
            text=True,
            timeout=JOIN_SECONDS,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the command
        )
    except subprocess.TimeoutExpired:
        raise _unjoinable(address, f"no answer within {JOIN_SECONDS:g} s") from None
    if done.returncode:
        raise _unjoinable(address, done.stdout or done.stderr[-300:] or "it ended")


def _greeting(host: str, port: int) -> bytes:
    """Return the header of the first frame that a gRPC server sends, be it a head's or another's.

    Raises:
        OSError: there is no answer.
        ValueError: there can be no such address.
    """
    with socket.create_connection((host, port), CONNECT_SECONDS) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return _SETTINGS  # it speaks to nobody without a certificate
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS)
        return connection.recv(len(_SETTINGS))


def _unjoinable(address: str, why: str) -> PeerWattError:
    return PeerWattError(
        f"cannot join the Ray cluster at {shown(address, 100)} ({shown(why, 400).rstrip('.')}): "
        "`ray status` tells whether it is up; this machine must be one of its nodes, with the same "
        "versions of Ray and Python."
    )


def check_nodes(
    ray: Any,
    cpus: float,
    memory: float,
    environment: dict[str, str],
    versions: dict[str, str],
    test: Callable[[], str | None],
) -> list[Node]:
    """Return the nodes that have room for a run, all of which can execute the runs.

    Args:
        ray: Ray, connected.
        cpus: what a run asks for.
        memory: in bytes; likewise.
        environment: variables of the workers.
        versions: what is installed here, and must be there.
        test: what each node is to do then; returns what is wrong there.

    Raises:
        PeerWattError: no node has room, or one is not like this machine.
    """
    nodes = [node for node in alive(ray) if node.cpus >= cpus and node.memory >= memory]
    if not nodes:
        most = [f"{node.address} has {node.cpus:g} CPUs, {node.memory / 1e9:.1f} GB" for node in
                alive(ray)]  # fmt: skip
        asked = f"{cpus:g} CPUs" + (f" and {memory / 1e9:g} GB" if memory else "")
        raise PeerWattError(
            f"no node of the Ray cluster has room for a run that asks for {asked} "
            f"({'; '.join(most[:3]) or 'there is no node'}): lower --run-cpus or --run-memory."
        )

    # Nested functions travel by value, so that a node without PeerWatt can say so.
    def look(test: bytes) -> str | None:
        import importlib.metadata
        import platform

        there = {"Python": platform.python_version()}
        for name in versions:
            try:
                there.setdefault(name, importlib.metadata.version(name))
            except importlib.metadata.PackageNotFoundError:
                continue
        differing = [
            f"{name} {there.get(name, 'is not installed')} and not {version}"
            for name, version in versions.items()
            if name != "PeerWatt's code" and there.get(name) != version
        ]
        if differing:
            return "it has " + ", ".join(differing)
        from peerwatt.runs.provenance import own_code

        if own_code() != versions["PeerWatt's code"]:
            return "its code of PeerWatt is another, under the same version"
        import pickle

        problem: str | None = pickle.loads(test)()
        return problem

    import pickle

    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    function = ray.remote(look)
    pending = {
        function.options(
            num_cpus=0,
            max_retries=0,
            runtime_env={"env_vars": environment},
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        ).remote(pickle.dumps(test)): node
        for node in nodes
    }
    ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=NODE_SECONDS)
    usable = []
    for reference, node in pending.items():
        problem = f"no answer within {NODE_SECONDS:g} s"
        if reference in ready:
            try:
                problem = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                problem = told(error.cause or error)
            except ray.exceptions.RayError:
                continue  # it has just gone
        if problem:
            raise PeerWattError(
                f"node {node.address} of the Ray cluster cannot execute these runs: "
                f"{shown(problem, 500).rstrip('.')}."
            )
        usable.append(node)
    if not usable:
        raise PeerWattError("all nodes of the Ray cluster went away: `ray status` tells more.")
    return usable


def alive(ray: Any) -> list[Node]:
    """Return the nodes that Ray believes to be alive."""
    return [
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("memory", math.inf),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Take back the handlers that Ray installs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
