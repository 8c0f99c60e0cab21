"""What a run ran on: versions, machine, commit."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.checkpoint import CHECKPOINT_VERSION
from peerwatt.runs.result import Environment

if TYPE_CHECKING:
    from peerwatt.runs.config import ResolvedRun

CODE = ("peerwatt", "peerwatt_algorithms", "peerwatt_critics", "peerwatt_tasks")
"""Packages of PeerWatt's own that take part in runs."""
DECIDING = (
    *("peerwatt.community", "peerwatt.env", "peerwatt.evaluation", "peerwatt.fairness"),
    *("peerwatt.market", "peerwatt.runs.checkpoint", "peerwatt.runs.criticism"),
    *("peerwatt.runs.execute", "peerwatt.runs.generators", "peerwatt.runs.given"),
    *("peerwatt.runs.resume", "peerwatt.runs.training", *CODE[1:]),
)
"""Packages and modules of these that the bytes of a run depend on."""
VARIABLES = (
    *("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "NUMBA_CPU_FEATURES"),
    *("NUMBA_CPU_NAME", "NUMBA_DISABLE_JIT", "OPENBLAS_CORETYPE"),
)
"""Environment variables that choose among kernels which round differently."""
PACKAGES = ("peerwatt", "numba", "numpy", "pydantic", "safetensors", "scipy", "torch")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Describe this process's environment; paths and host names are left out."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit, dirty = _commit()
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        packages=packages,
        git_commit=commit,
        git_dirty=dirty,
        code=own_code(),
    )


@cache
def own_code() -> str:
    """Return the SHA-256 over the Python files of PeerWatt's own that take part in runs.

    It is taken from the disk at the first call: call it before anybody changes them.
    """
    return _digest_of(CODE)


@cache
def _digest_of(packages: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for package in packages:
        digest.update(f"{package}\0{_code_digest(package, '.py')}\0".encode())
    return digest.hexdigest()


def fingerprint(run: ResolvedRun) -> dict[str, Any]:
    """Return all on which the bytes of `run` may depend: a checkpoint of another is of no use."""
    here = environment()
    plugins = (run.algorithm, run.critic, run.mechanism.mechanism)
    modules = {type(plugin).__module__.partition(".")[0] for plugin in plugins} - {*CODE}
    return {
        "checkpoint format": CHECKPOINT_VERSION,
        "configuration": run.config_hash,
        "seed": run.config.seed,
        "PeerWatt's code": _digest_of(DECIDING),
        **{f"{name}'s code": _code_digest(name) for name in sorted(modules)},
        "Python": here.python,
        "processor": here.processor,
        **here.packages,
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


@cache
def source_of(distribution: str, module: str) -> str | None:
    """Return where `distribution` was installed from, if it says so (PEP 610); no local paths.

    "git+https://...@COMMIT" or an archive's address and hash; None from an index, where the version
    is enough. A local folder can change under the same version, so a stranger's is told by the
    digest of its code: that of the package, or the single module, that `module` belongs to.
    """
    try:
        text = importlib.metadata.distribution(distribution).read_text("direct_url.json")
        content = json.loads(text) if text else None
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    parts = urlsplit(str(content.get("url", "")))
    host = parts.netloc.rpartition("@")[2]  # no user names, passwords or signed queries
    url = urlunsplit((parts.scheme, host, parts.path, "", ""))
    if url.startswith("file:"):
        digest = None if distribution == PROJECT else _code_digest(module.partition(".")[0])
        return f"local folder{f', code sha256:{digest}' if digest else ''}"
    if isinstance(vcs := content.get("vcs_info"), dict):
        return f"{vcs.get('vcs')}+{url}@{vcs.get('commit_id')}"[:500]
    if isinstance(archive := content.get("archive_info"), dict):
        return f"{url} {archive.get('hash', '')}".strip()[:500]
    return url[:500] or None


def _code_digest(package: str, ending: str = "") -> str | None:
    """Return the SHA-256 over all files of a package but compiled ones, or over a module's file."""
    try:  # a plugin that is a single file is found among the modules that are loaded
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    roots = [Path(folder) for folder in spec.submodule_search_locations or []]
    files = [(file.relative_to(root), file) for root in roots for file in root.rglob("*")]
    files = files or [(Path(package), Path(spec.origin or ""))]
    digest = hashlib.sha256()
    for name, file in sorted(files):
        if file.is_file() and "__pycache__" not in name.parts and file.name.endswith(ending):
            digest.update(f"{name.as_posix()}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> tuple[str | None, bool | None]:
    """Return commit and dirtiness of the checkout that this code runs from, if it does."""
    here = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        call = ["git", "-C", str(here), *words]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed wheel may lie inside somebody else's checkout: that commit is not ours.
        if Path(git("rev-parse", "--show-toplevel")) != here.parent:
            return None, None
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return None, None
