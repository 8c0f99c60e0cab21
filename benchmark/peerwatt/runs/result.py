"""The record of one run: a JSON file from which every published number is recomputed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from peerwatt.fairness.session import CriticUsage
from peerwatt.plugins.specs import VERSION

SCHEMA_VERSION: Literal[2] = 2
METRICS_VERSION = 1
"""Raised whenever the definition of a metric changes; results of another version do not compare."""

Finite = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1 + 1e-9, allow_inf_nan=False)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,48}-v[1-9][0-9]*$")]
PluginName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
DistributionName = Annotated[str, Field(pattern=r"^(file:)?[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
Version = Annotated[str, Field(pattern=rf"^{VERSION}$")]
Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]
"""A line of text without control characters."""
Command = Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
OptionName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$")]
Contents = Annotated[dict[OptionName, Hash], Field(max_length=64)]
Group = Annotated[str, Field(pattern=r"^[a-z][a-z0-9 +-]{0,31}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)$")]


class Record(BaseModel):
    """Base of all parts of a result: immutable, and unknown keys are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskRecord(Record):
    """Which task was played, exactly."""

    name: TaskName
    content_hash: Hash = Field(description="SHA-256 over the card and the data it names")
    households: int = Field(ge=1)
    slots: int = Field(ge=1, description="slots per episode")


class PluginRecord(Record):
    """Which plugin took part, and with which options."""

    name: PluginName
    distribution: DistributionName = Field(description="distribution that registered the plugin")
    version: Version = Field(description="version of the plugin, by default of that distribution")
    options: dict[str, Any] = Field(default_factory=dict, description="its hyper-parameters")
    source: Line | None = Field(
        default=None, description="where the distribution was installed from, if not an index"
    )
    contents: Contents = Field(
        default_factory=dict, description="option -> SHA-256 of the file that it names"
    )


def full_name(plugin: PluginRecord) -> str:
    """Return "distribution:name", by which the plugin is found even where another has its name."""
    return f"{plugin.distribution}:{plugin.name}"


def configuration_hash(
    *,
    task: TaskRecord,
    mechanism: PluginRecord,
    algorithm: PluginRecord,
    critic: PluginRecord,
    shaping: Mapping[str, Any],
    budget: int,
    validations: int,
) -> str:
    """Return the SHA-256 that all seeds of an entry share: what was asked for, but the seed.

    Where a plugin was installed from is left out, and so are contents where there are none.
    """
    content = {
        "task": [task.name, task.content_hash],
        **{
            role: plugin.model_dump(
                mode="json", exclude={"source"} | (set() if plugin.contents else {"contents"})
            )
            for role, plugin in (
                ("mechanism", mechanism),
                ("algorithm", algorithm),
                ("critic", critic),
            )
        },
        "shaping": dict(shaping),
        "budget": budget,
        "validations": validations,
        "metrics_version": METRICS_VERSION,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class EpisodeMetrics(Record):
    """Metrics of one evaluation, one value per held-out episode.

    `null` marks a metric that is undefined in an episode (say, trade was never feasible).
    """

    episodes: int
    cost: list[Finite] = Field(description="community cost of each episode, in the task's currency")
    grid_cost: list[Finite] = Field(description="the same without any trade, storage idle")
    oracle_cost: list[Finite] = Field(description="perfect-foresight optimum of the community")
    savings: list[list[Finite]] = Field(
        description="[episodes][households] money saved against grid-only"
    )
    grid_bills: list[list[Finite]] = Field(
        description="[episodes][households] bill under grid-only, the scale of relative savings"
    )
    metrics: dict[str, list[Finite | None]] = Field(
        description="name -> one value per episode; names and units in the metric reference"
    )


class CurvePoint(Record):
    """One validation of the policy in training."""

    agent_steps: int = Field(ge=0)
    welfare: Annotated[float, Field(ge=-1e12, le=1 + 1e-6, allow_inf_nan=False)] | None
    scores: dict[str, Share | None] = Field(default_factory=dict)


class Timings(Record):
    """Where the time went, in seconds."""

    wall: Finite
    cpu: Finite
    training_wall: Finite
    evaluation_wall: Finite
    agent_steps_per_second: Finite | None = Field(description="training only, wall clock")
    interruptions: int = Field(
        default=0, ge=0, description="how often the run was stopped or killed and gone on with"
    )


class Environment(Record):
    """What the run ran on."""

    python: Line
    platform: Line
    processor: Line
    packages: dict[Line, Line]
    git_commit: Line | None
    git_dirty: bool | None
    code: Hash | None = Field(default=None, description="SHA-256 over PeerWatt's own code")


_DECIDED = (
    *("schema_version", "metrics_version", "task", "mechanism", "algorithm", "critic", "shaping"),
    *("seed", "budget", "agent_steps", "validations", "config_hash", "households", "test", "curve"),
)
"""What task, configuration, seed and code decide, and nothing else does."""
_FATES = ("slots", "undefined", "skipped", "scored", "student", "fallback", "abstained")
"""Of the critic's account, what became of the slots: not what that cost."""


class RunResult(Record):
    """One (task, algorithm, critic, mechanism, seed): everything needed to score and trace it."""

    schema_version: Literal[2] = SCHEMA_VERSION
    metrics_version: int = METRICS_VERSION
    task: TaskRecord
    mechanism: PluginRecord
    algorithm: PluginRecord
    critic: PluginRecord
    shaping: dict[str, Any] = Field(description="weights and ramp by which the critic shaped")
    seed: int = Field(ge=0, le=2**31 - 1)
    budget: int = Field(ge=0, le=2**53, description="agent-steps that the algorithm was allowed")
    agent_steps: int = Field(description="agent-steps that it took")
    validations: int = Field(ge=0, le=1000, description="evaluations for the learning curve")
    config_hash: Hash = Field(description="SHA-256 of the configuration; see `configuration_hash`")
    households: list[Group] = Field(description="group of each household, in order")
    test: EpisodeMetrics = Field(description="final evaluation on the test split, done once")
    curve: list[CurvePoint] = Field(description="evaluations on the validation split in training")
    timings: Timings
    environment: Environment
    files: dict[FileName, Hash] = Field(
        default_factory=dict, description="SHA-256 of each other file in the run's folder"
    )
    command: Command
    critic_usage: CriticUsage | None = Field(
        default=None, description="what the critic did and what it cost, if it tells"
    )
    notes: list[Line] = Field(
        default_factory=list,
        description="what went wrong beside the run: a failing sink, a critic that abstained",
    )
    created_utc: Time

    def digest(self) -> str:
        """Return the SHA-256 of all that task, configuration, seed and code decide.

        Two runs of the same have the same digest, however often they were interrupted and wherever
        they ran on equal machines. Left out are times, the environment, where plugins were
        installed from, what critics cost, and notes.
        """
        content = self.model_dump(mode="json", include={*_DECIDED, "files"})
        for role in ("mechanism", "algorithm", "critic"):
            del content[role]["source"]
        content["files"] = {
            name: digest
            for name, digest in content["files"].items()
            if name == "metrics.jsonl" or name.endswith((".json", ".safetensors"))
        }
        usage = self.critic_usage
        content["critic_slots"] = usage and {name: getattr(usage, name) for name in _FATES}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
