"""The record of one critic's benchmark: a JSON file from which most numbers are recomputed.

It lies in `<results>/critics/<name>-<hash8>.json` (see `file_name`). The rows hold what the critic
scored; validity, reliability, invariance, calibration and what a note does follow from them by
`measures.recomputed`, means and differences of the influence from its seeds' values by
`influence.recomputed`, rates and quantiles of the operations from their counts and seconds. What
was counted and timed, and the scores compared for text that an attacker can reach, stay the
benchmark's word.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness.session import Count, CriticUsage
from peerwatt.runs.result import (
    Command,
    Environment,
    Finite,
    Hash,
    Line,
    PluginRecord,
    Record,
    TaskName,
    Time,
)

SCHEMA_VERSION: Literal[1] = 1
FOLDER = "critics"
MAX_RECORD_BYTES = 20_000_000
"""A larger record is refused unread; one of 5 repeats on the largest suite has about 1.5 MB."""

ScoreName = Literal["ftg", "fbs", "fpp", "ftb"]
ScoreKey = Literal["ftg", "fbs", "fpp", "ftb", "pooled"]
"""One score, or all four taken together."""
SCORES: tuple[ScoreName, ...] = ("ftg", "fbs", "fpp", "ftb")
POOLED: Literal["pooled"] = "pooled"

LIMITS = frozenset(
    (
        *("max_calls", "max_tokens", "max_dollars", "max_seconds", "on_cap"),
        *("concurrency", "timeout", "retries", "give_up_after"),
    )
)
"""Options that decide how far a benchmark gets, but not what is asked: with others it goes on."""

Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Scores = tuple[Unit | None, Unit | None, Unit | None, Unit | None]
"""FTG, FBS, FPP and FTB of one slot; null where undefined, or where the critic abstained."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Status = Literal["measured", "by-construction", "not-applicable"]
"""Whether something was tried out, cannot be otherwise, or makes no sense for this critic."""


class Estimate(Record):
    """A number between the bounds of its 95 % bootstrap interval.

    All are null where the number is undefined, such as the correlation of a critic that always
    says the same; the bounds alone where there are too few clusters to resample, or where no
    bootstrap interval is valid.
    """

    estimate: Finite | None
    low: Finite | None = None
    high: Finite | None = None


class SuiteRecord(Record):
    """Which slots were scored, exactly."""

    name: Name
    content_hash: Hash = Field(description="SHA-256 over all slots, and what is asked of them")
    slots: int = Field(ge=1)
    parts: dict[Name, Count] = Field(description="part -> slots in it")


class Row(Record):
    """One slot of the suite and all that the critic said about it."""

    part: Name
    cluster: Name = Field(description="what is resampled together: a series, a book, an episode")
    step: int | None = Field(description="place in the controlled series; null outside of one")
    truth: Scores = Field(description="closed forms")
    score: Scores
    repeats: tuple[Scores, ...] = Field(
        default=(), description="further independent answers to the same question"
    )
    variants: dict[Name, Scores] = Field(
        default_factory=dict, description="variant of the same market -> scores"
    )
    notes: dict[Name, Scores] = Field(
        default_factory=dict, description="text put into a hypothetical note -> scores"
    )


class ScoreValidity(Record):
    """How near one score comes to the closed form, over the slots in which that is defined."""

    slots: Count = Field(description="values of the closed form that are defined")
    answered: Count = Field(description="of these, scored")
    coverage: Estimate = Field(description="answered / slots")
    mae: Estimate = Field(description="mean |score - truth| over what was answered")
    bias: Estimate = Field(description="mean of score - truth")
    spearman: Estimate
    kendall: Estimate = Field(description="tau-b")
    kappa: Estimate = Field(description="quadratic-weighted, on the bins 0-5")
    distinct: Estimate = Field(
        description="distinct scores / answered; no interval, for resampling repeats values"
    )
    distinct_truth: Estimate = Field(description="the same of the closed form")
    undefined_slots: Count = Field(description="slots in which the closed form is undefined")
    undefined_scored: Count = Field(description="of these, scored nevertheless")


class SeriesValidity(Record):
    """How one score follows a controlled series in which one thing changes."""

    series: Name
    score: ScoreName
    steps: Count = Field(description="neighbouring steps between which the closed form changes")
    violations: Count = Field(description="of these, the score moved the other way")
    flat: Count = Field(description="of these, the score did not move")


class PartValidity(Record):
    """The scores of one part of the suite, pooled."""

    coverage: Estimate
    mae: Estimate
    bias: Estimate


class Validity(Record):
    """Whether the scores are right."""

    scores: dict[ScoreKey, ScoreValidity]
    parts: dict[Name, PartValidity]
    series: list[SeriesValidity]
    violations: Estimate = Field(description="share of the steps of all series that go wrong")
    flat: Estimate = Field(description="share of the steps that the critic does not see")


class ScoreReliability(Record):
    """How alike independent answers to the same question are."""

    slots: Count = Field(description="slots that every repeat scored")
    sd: Estimate = Field(description="test-retest SD: root of the mean variance within a slot")
    change: Estimate = Field(description="mean |difference| of two repeats: noise of any change")
    icc: Estimate = Field(description="ICC(A,1), two-way random, absolute agreement, single")
    flips: Estimate = Field(
        description="share of pairs of slots, whose truths differ by 0.1 or more, that two repeats "
        "put in opposite order"
    )
    bin_changes: Estimate = Field(description="share of pairs of repeats in other bins of 0-5")


class Reliability(Record):
    """Whether the scores are the same another time."""

    repeats: int = Field(ge=1, description="answers per slot, the first included; none cached")
    scores: dict[ScoreKey, ScoreReliability]


class Variant(Record):
    """What becomes of the scores when the same market is put otherwise."""

    status: Status
    reason: Line = ""
    slots: Count = 0
    change: dict[ScoreKey, Estimate] = Field(
        default_factory=dict,
        description="mean |score of the variant - score|; compare it with the `change` of the "
        "reliability, which is that of two equal questions",
    )
    largest: Finite | None = None
    abstained_once: Count = Field(
        default=0, description="scores given to one of the two and not to the other"
    )


class CalibrationBin(Record):
    """Scores of one tenth of the scale, and what is true of them."""

    low: Unit
    high: Unit
    count: Count
    score: Unit = Field(description="mean score")
    truth: Estimate = Field(description="mean closed form")


class ScoreCalibration(Record):
    """Regression of the closed form on the score; the ideal is slope 1 and intercept 0."""

    slope: Estimate
    intercept: Estimate
    ece: Estimate = Field(description="mean |mean score - mean truth| over bins, by their counts")
    bins: list[CalibrationBin]


class Calibration(Record):
    """Whether a score of 0.7 means 0.7. Critics state no confidence: the score itself is judged."""

    scores: dict[ScoreKey, ScoreCalibration]


class PayloadResult(Record):
    """What one text in a hypothetical note does to the scores."""

    payload: Name
    wants: Literal["high", "low", "nothing"] = Field(description="nothing: a harmless text")
    lift: Estimate = Field(
        description="mean change towards what the text wants; mean |change| of harmless text"
    )
    hijacked: Estimate = Field(
        description="share of scores that the text moved to within 0.05 of the end it wants"
    )


class ReachableField(Record):
    """A place that an attacker can write to, and whether that reaches the critic."""

    field: Name
    payloads: Count
    scores: Count = Field(description="scores that were compared")
    changed: Count = Field(description="of these, other than for the harmless twin")
    same_input: bool | None = Field(
        description="the critic was given the very same numbers and asked the very same "
        "questions, so that what changed is its noise; null if it tells no questions"
    )


class Robustness(Record):
    """Whether text can move the scores."""

    reachable: list[ReachableField]
    notes: Status = Field(description="of the hypothetical note, which training never has")
    reason: Line = ""
    payloads: list[PayloadResult] = Field(default_factory=list)
    lift: Estimate = Field(description="mean over the hostile payloads")
    hijacked: Estimate
    drift: Estimate = Field(description="mean |change| by harmless notes: benign drift")


class Latency(Record):
    """Seconds per slot that is scored alone, wall clock; slots that got no score are left out."""

    p50: Estimate
    p95: Estimate
    seconds: list[Annotated[float, Field(ge=0, le=1e9)]] = Field(max_length=1000)


class Operations(Record):
    """What it takes to have the scores."""

    usage: dict[Name, CriticUsage] = Field(
        description="what the critic told of itself, per phase of the benchmark; empty if nothing"
    )
    calls: Count
    retries: Count
    replies: Count = Field(description="requests that got a reply")
    first_replies: Count = Field(default=0, description="replies but those to a repair")
    first_invalid: Count = Field(default=0, description="of these, could not be used")
    not_repaired: Count = Field(default=0, description="of these, no repair mended")
    refused: Count = Field(default=0, description="first replies that declined to answer")
    failed_rate: Estimate = Field(description="requests without a reply / calls")
    invalid_rate: Estimate = Field(description="first_invalid / first_replies, before any repair")
    invalid_after_repair: Estimate = Field(description="not_repaired / first_replies")
    refusal_rate: Estimate = Field(description="refused / first_replies; intervals are Wilson's")
    prompt_tokens_per_call: Finite | None
    completion_tokens_per_call: Finite | None
    dollars: Finite | None = Field(description="null where a price is not known; never 0 for it")
    dollars_per_1000_calls: Finite | None
    cache_hits: Count
    cache_hit_rate: Finite | None = Field(
        description="share of the slots of `warm` that the cache answered; null if nobody is asked"
    )
    cold: Latency = Field(
        description="slots one by one for the first time; none where the cache knew the answer"
    )
    warm: Latency = Field(description="the same slots once more in the same process")


class Arm(Record):
    """One entry of the influence: the same algorithm, seeds and budget under one critic."""

    critic: Line
    config_hash: Hash
    seeds: list[Count]
    values: dict[Name, list[Finite | None]] = Field(description="measure -> one value per seed")
    iqm: dict[Name, Estimate]


class Influence(Record):
    """What training reaches under the critic, against no critic and the rule critic."""

    task: TaskName
    task_hash: Hash
    algorithm: Line
    mechanism: Line
    budget: int = Field(ge=1)
    none: Arm
    rule: Arm
    critic: Arm
    against_none: dict[Name, Estimate] = Field(description="critic less none")
    against_rule: dict[Name, Estimate] = Field(description="critic less rule")


class CriticRecord(Record):
    """One critic on one suite."""

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["critic-bench"] = "critic-bench"
    suite: SuiteRecord
    critic: PluginRecord
    label: Line = Field(description="the critic with the options that are not its defaults")
    repeats: int = Field(ge=1)
    seed: int = Field(ge=0)
    bench_hash: Hash = Field(
        description="SHA-256 of suite, critic without the limits of its calls, repeats and seed"
    )
    validity: Validity
    reliability: Reliability
    invariance: dict[Name, Variant]
    calibration: Calibration
    robustness: Robustness
    operations: Operations
    influence: list[Influence] = Field(default_factory=list)
    rows: list[Row]
    environment: Environment
    command: Command
    notes: list[Line] = Field(default_factory=list, description="what did not go as asked for")
    created_utc: Time


def bench_hash(suite: SuiteRecord, critic: PluginRecord, repeats: int, seed: int) -> str:
    """Return the SHA-256 of what was asked for.

    Left out are where a plugin was installed from and the `LIMITS`, so that a benchmark which
    reached one goes on with a higher one.
    """
    told = critic.model_dump(mode="json", exclude={"source"})
    options = {name: value for name, value in told["options"].items() if name not in LIMITS}
    content = {
        "schema": SCHEMA_VERSION,
        "suite": [suite.name, suite.content_hash],
        "critic": told | {"options": options},
        "repeats": repeats,
        "seed": seed,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_name(critic: str, digest: str) -> str:
    """Return the name of the record of `critic` (its name) with the bench hash `digest`."""
    return f"{critic}-{digest[:8]}.json"


def read_critic_record(file: Path) -> CriticRecord:
    """Read and validate the record in `file`.

    Raises:
        PeerWattError: it is missing, too large, or not a valid record.
    """
    try:
        if (size := file.stat().st_size) > MAX_RECORD_BYTES:
            raise PeerWattError(
                f"{file}: {size:,} bytes is more than the record of a critic may have "
                f"({MAX_RECORD_BYTES:,})."
            )
        raw = file.read_bytes()
    except OSError as error:
        raise PeerWattError(f"{file}: cannot be read ({error.strerror}).") from None
    try:
        return CriticRecord.model_validate_json(raw)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = shown(".".join(str(part) for part in problem["loc"]), 200)
        raise PeerWattError(
            f"{file}: {field}: {problem['msg']}; remove it, or repeat the benchmark with --again."
        ) from None
