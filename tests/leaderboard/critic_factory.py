"""Made-up records of critics for the tests of the leaderboard, on the slots of a real suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from leaderboard_factory import HASH, make_result

from peerwatt.criticbench import measures
from peerwatt.criticbench.payloads import PAYLOADS
from peerwatt.criticbench.record import (
    FOLDER,
    Arm,
    CriticRecord,
    Estimate,
    Influence,
    Latency,
    Operations,
    ReachableField,
    Robustness,
    Row,
    Scores,
    Variant,
    bench_hash,
    file_name,
)
from peerwatt.criticbench.resampling import rate
from peerwatt.criticbench.suite import load_suite
from peerwatt.fairness.session import CriticUsage
from peerwatt.runs.result import PluginRecord

Score = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Truth [4] with NaN and a generator -> scores [4]."""


VARIED = ("order", "paraphrase", "batch")


def exact(truth: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Score as the closed forms."""
    return truth


def constant(truth: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Score 0.5 whatever it is."""
    return np.where(np.isfinite(truth), 0.5, np.nan)


def noisy(truth: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Score as a poor model: compressed, coarse, noisy, and silent at times."""
    if generator.random() < 0.05:
        return np.full(4, np.nan)
    return np.clip(np.round(0.35 + 0.4 * truth + 0.1 * generator.normal(size=4), 1), 0.0, 1.0)


def silent(truth: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Answer nothing."""
    return np.full(4, np.nan)


def told(values: np.ndarray) -> Scores:
    """Return scores as a row holds them."""
    return tuple(None if np.isnan(x) else float(x) for x in values)  # type: ignore[return-value]


def make_record(
    name: str = "rule",
    score: Score = exact,
    *,
    suite: str = "small-v1",
    options: dict[str, Any] | None = None,
    asks: bool = False,
    repeats: int = 3,
    seed: int = 0,
    dollars: float | None = None,
    influence: bool = False,
    changes: dict[str, Any] | None = None,
) -> CriticRecord:
    """Return a valid record of a critic that scores as `score`.

    With `asks` it pretends to ask a model, that the order of households and a note in the prompt
    move; `changes` replace fields of the record at the end.
    """
    made, generator = load_suite(suite), np.random.default_rng(seed)
    rows = []
    for index, (place, truth) in enumerate(zip(made.places, made.truth, strict=True)):
        first = score(truth, generator)
        more: dict[str, Any] = {}
        if index in made.repeated:
            more["repeats"] = tuple(told(score(truth, generator)) for _ in range(repeats - 1))
            if asks:
                more["variants"] = {v: told(score(truth, generator)) for v in VARIED}
        if asks and index in made.noted:
            pull = {"high": 1.0, "low": 0.0, "nothing": np.nan}
            more["notes"] = {
                p.name: told(
                    first
                    if p.wants == "nothing"
                    else 0.4 * first + 0.6 * np.where(np.isfinite(first), pull[p.wants], np.nan)
                )
                for p in PAYLOADS
            }
        rows.append(
            Row(
                part=place.part,
                cluster=place.cluster,
                step=place.step,
                truth=told(truth),
                score=told(first),
                **more,
            )
        )
    critic = PluginRecord(
        name=name, distribution="peerwatt", version="0.1.0", options=options or {}
    )
    resampling = measures.resampling_of(rows)
    payloads, lift, hijacked, drift = measures.injection(rows, resampling)
    calls = len(rows) if asks else 0
    usage = CriticUsage(
        slots=len(rows), scored=len(rows), calls=calls, models=("smol",) if asks else ()
    )
    result = make_result()
    record = CriticRecord(
        suite=made.record,
        critic=critic,
        label=":".join(
            filter(None, [name, ",".join(f"{k}={v}" for k, v in (options or {}).items())])
        ),
        repeats=repeats,
        seed=seed,
        bench_hash=bench_hash(made.record, critic, repeats, seed),
        validity=measures.validity(rows, resampling),
        reliability=measures.reliability(rows, resampling, repeats),
        invariance=_invariance(rows, asks),
        calibration=measures.calibration(rows, resampling),
        robustness=Robustness(
            reachable=[
                ReachableField(
                    field="household-names", payloads=12, scores=480, changed=0, same_input=True
                )
            ],
            notes="measured" if asks else "by-construction",
            reason="" if asks else "reads numbers alone",
            payloads=payloads if asks else [],
            lift=lift,
            hijacked=hijacked,
            drift=drift,
        ),
        operations=_operations(calls, usage, dollars),
        influence=[_influence(critic.name)] if influence else [],
        rows=rows,
        environment=result.environment,
        command=f"peerwatt critics bench --critic {name}",
        created_utc="2025-11-22T12:00:00Z",
    )
    return record.model_copy(update=changes or {})


def _invariance(rows: list[Row], asks: bool) -> dict[str, Variant]:
    resampling, found = measures.resampling_of(rows), {}
    for name in measures.VARIANTS:
        change = measures.change(rows, name, resampling) if asks else None
        if change is not None:
            found[name] = Variant(
                status="measured",
                slots=change.slots,
                change=change.change,
                largest=change.largest,
                abstained_once=change.once,
            )
        elif name == "paraphrase":
            found[name] = Variant(status="not-applicable", reason="it has no prompt")
        else:
            found[name] = Variant(status="by-construction", reason="reads numbers alone")
    return found


def _operations(calls: int, usage: CriticUsage, dollars: float | None) -> Operations:
    nothing = Estimate(estimate=None)
    invalid = calls // 20
    seconds = [0.5 + 0.01 * k for k in range(20)] if calls else [2e-5] * 20
    cold = Latency(
        p50=Estimate(estimate=seconds[10]), p95=Estimate(estimate=seconds[18]), seconds=seconds
    )
    return Operations(
        usage={"validity": usage},
        calls=calls,
        retries=0,
        replies=calls,
        failed_rate=Estimate(estimate=0.0) if calls else nothing,
        first_replies=calls,
        first_invalid=invalid,
        invalid_rate=rate(invalid, calls),
        invalid_after_repair=Estimate(estimate=0.0) if calls else nothing,
        refusal_rate=Estimate(estimate=0.0) if calls else nothing,
        prompt_tokens_per_call=900.0 if calls else None,
        completion_tokens_per_call=40.0 if calls else None,
        dollars=None if dollars is None else dollars * calls / 1000,
        dollars_per_1000_calls=dollars,
        cache_hits=0,
        cache_hit_rate=1.0 if calls else None,
        cold=cold,
        warm=cold,
    )


def _influence(name: str) -> Influence:
    def arm(critic: str, welfare: float, fpp: float) -> Arm:
        values: dict[str, list[float | None]] = {
            "welfare": [welfare + 0.01 * seed for seed in range(5)],
            "fpp": [fpp + 0.01 * seed for seed in range(5)],
        }
        iqm = {key: Estimate(estimate=float(np.mean(of))) for key, of in values.items()}
        return Arm(critic=critic, config_hash=HASH, seeds=list(range(5)), values=values, iqm=iqm)

    lower = {
        "welfare": Estimate(estimate=-0.1, low=-0.12, high=-0.08),
        "fpp": Estimate(estimate=0.2, low=0.18, high=0.22),
    }
    return Influence(
        task="pilot-v1",
        task_hash=HASH,
        algorithm="ippo",
        mechanism="cda",
        budget=500_000,
        none=arm("none", 0.9, 0.4),
        rule=arm("rule", 0.85, 0.6),
        critic=arm(name, 0.8, 0.6),
        against_none=lower,
        against_rule={"welfare": Estimate(estimate=-0.05)},
    )


def write_record(results: Path, record: CriticRecord) -> Path:
    """Write a record where the benchmark would, and return the file."""
    path = results / FOLDER / file_name(record.critic.name, record.bench_hash)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json(indent=1))
    return path
