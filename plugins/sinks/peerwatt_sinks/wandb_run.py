"""Runs in Weights & Biases, where the network is never asked unless the user is logged in.

One W&B run per attempt at a run, in the group `TASK/ALGORITHM`. A run that was killed and goes on
is an attempt of its own, which is told everything from the beginning.
"""

from __future__ import annotations

import hashlib
import json
import netrc
import os
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from packaging.version import Version

from peerwatt.errors import PeerWattError
from peerwatt_sinks.naming import STEP, entry_of, group_of, seed_of, tracked

# The metadata, for the package takes half a second to import, and a folder `wandb`, as it makes
# itself, would pass for a package of that name. Absent, it is a module that is not found.
VERSION = Version(version("wandb"))
OLDEST = Version("0.19")
CLOUD = "https://api.wandb.ai"

SETTINGS = {
    "console": "off",
    "silent": True,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "host": "",
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""Nothing of the machine, its packages or its checkouts is sent but what `result.json` holds."""


@dataclass
class WandbSink:
    """Writes a W&B run: history, configuration, result and policy, tables and plots.

    Log in by `wandb login` or the variable WANDB_API_KEY. Offline runs are uploaded by `wandb sync`
    or, from the results, by `peerwatt sync`.
    """

    project: str = "peerwatt"
    """Project that the runs go to."""
    entity: str | None = None
    """User or team that has the project; by default your own."""
    mode: Literal["auto", "online", "offline"] = "auto"
    """auto: what WANDB_MODE says, else online if you are logged in, offline if not."""
    folder: Path = Path()
    """Folder in which W&B makes its folder `wandb`."""
    tags: tuple[str, ...] = ()
    """Tags of the runs, besides that of the code."""
    _run: Any = field(default=None, init=False)
    _files: Path = field(default=Path(), init=False)

    def __post_init__(self) -> None:
        if VERSION < OLDEST:
            raise PeerWattError(
                f"wandb {VERSION} is too old for the sink 'wandb', which needs {OLDEST} or newer: "
                "pip install --upgrade 'peerwatt[wandb]'."
            )

    def destination(self) -> str:
        """Return where the runs go: a project on a server, or a folder of offline runs."""
        project = f"{self.entity or ''}/{self.project}"
        if self._mode == "online":
            return f"{_server()} {project}"
        return f"{self._mode} {project} {self.folder.absolute()}"

    def outcome(self) -> str:
        """Return in a line where the runs are that have ended; nothing if W&B is off."""
        if self._mode == "online":
            return f"the runs are at {_server()}, project {self.project}"
        if self._mode != "offline":
            return ""
        files = self.folder.absolute() / "wandb" / "offline-run-*"
        return f"not logged in, or told to stay offline: `wandb sync {files}` uploads the runs"

    @property
    def _mode(self) -> Any:
        if self.mode != "auto":
            return self.mode
        said = os.environ.get("WANDB_MODE", "")
        return said or ("online" if _logged_in() else "offline")

    def start(self, run: Mapping[str, Any]) -> None:
        """Begin the W&B run, with what is known of the run as its configuration."""
        # Its reports of its own errors would ask the network even offline.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        known = wandb.Settings.model_fields
        self._files = Path(run.get("files", ""))
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            dir=self.folder,
            mode=self._mode,
            id=_run_id(run),
            name=f"{entry_of(run)}--{seed_of(run)}",
            group=group_of(run),
            job_type="train",
            tags=[_code_tag(run.get("environment")), *self.tags],
            config=_config(run),
            settings=wandb.Settings(**{k: v for k, v in SETTINGS.items() if k in known}),
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, row: Mapping[str, float | None]) -> None:
        """Add a row to the history."""
        self._run.log(tracked(row))

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Add the measures, tables and files of a finished run; tell that another one failed."""
        if result is None:
            self._run.finish(exit_code=1)
            return
        measures = _measures(result)
        for name, value in measures.items():
            self._run.summary[f"test/{name}"] = value
        self._run.log({STEP: result["agent_steps"], **_tables(result, measures)})
        self._add_files(result)
        self._run.finish(exit_code=0)

    def _add_files(self, result: Mapping[str, Any]) -> None:
        import wandb

        name = f"{entry_of(result)}--{seed_of(result)}"
        record = wandb.Artifact(f"result--{name}"[:128], type="result")
        with record.new_file("result.json", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
        policy = wandb.Artifact(f"policy--{name}"[:128], type="policy")
        for file_name in result["files"]:
            told = file_name == "policy.json" or file_name.endswith(".safetensors")
            artifact = policy if told else record
            artifact.add_file(str(self._files / file_name), name=file_name)
        self._run.log_artifact(record)
        self._run.log_artifact(policy)


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", CLOUD).rstrip("/")


def _logged_in() -> bool:
    """Return whether there is a key in the environment or in netrc; nobody is asked for more."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    file = os.environ.get("NETRC")
    try:
        keys = netrc.netrc(file) if file else netrc.netrc()
    except (OSError, netrc.NetrcParseError):
        return False
    return keys.authenticators(urlsplit(_server()).netloc) is not None


def _run_id(run: Mapping[str, Any]) -> str:
    """Return the same id for the same attempt, so that what is told twice is there once."""
    parts = (run["config_hash"], run["seed"], run.get("attempt") or uuid.uuid4().hex)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _config(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the head of the record, without paths, and the names that W&B users filter by."""
    places = ("folder", "files", "environment", "attempt")
    return {
        "env_id": run["task"]["name"],
        "exp_name": run["algorithm"]["name"],
        "task_hash": run["task"]["content_hash"],
        **{key: value for key, value in run.items() if key not in places},
    }


def _code_tag(environment: Mapping[str, Any] | None) -> str:
    """Return what `git describe` says of the code that made the run, else its version."""
    if environment is None:
        from peerwatt.runs.provenance import environment as ours

        environment = ours().model_dump()
    commit = environment["git_commit"]
    if not commit:
        return f"v{environment['packages'].get('peerwatt', '')}"
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--tags", "--always", commit]
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # the commit of another checkout
        said = commit[:7]
    return f"{said[:57]}{'-dirty' if environment['git_dirty'] else ''}"


def _measures(result: Mapping[str, Any]) -> dict[str, float | None]:
    from peerwatt.runs.result import RunResult
    from peerwatt.runs.summary import run_values

    return run_values(RunResult.model_validate(result))


def _tables(result: Mapping[str, Any], measures: Mapping[str, float | None]) -> dict[str, Any]:
    """Return the final tables, and plots of the learning curve and of the households' savings."""
    import wandb

    test = result["test"]
    columns = {key: test[key] for key in ("cost", "grid_cost", "oracle_cost")} | test["metrics"]
    episodes = [[i, *values] for i, values in enumerate(zip(*columns.values(), strict=True))]
    curve = [[point["agent_steps"], point["welfare"]] for point in result["curve"]]
    saved = [sum(values) for values in zip(*test["savings"], strict=True)]
    homes = [
        [f"{i} {group}", saving]
        for i, (group, saving) in enumerate(zip(result["households"], saved, strict=True))
    ]
    learning = wandb.Table(columns=[STEP, "welfare"], data=curve)
    savings = wandb.Table(columns=["household", "saving"], data=homes)
    return {
        "test/measures": wandb.Table(["measure", "value"], [list(m) for m in measures.items()]),
        "test/episodes": wandb.Table(["episode", *columns], episodes),
        "eval/learning_curve": wandb.plot.line(
            learning, STEP, "welfare", title="Welfare on the validation split"
        ),
        "test/savings": wandb.plot.bar(
            savings, "household", "saving", title="Savings over the test episodes"
        ),
    }
