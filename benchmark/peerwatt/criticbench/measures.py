"""Every number of a record, computed from its rows by pure functions.

Pooled over the four scores, errors, biases and changes are those of all values together. A
correlation, kappa or ICC is the mean of the four instead, for between the scores lie differences
that a critic could know without reading a slot. In that mean a correlation counts 0 for a score
that never moves while its truth does, and is undefined if no score moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from peerwatt.criticbench.payloads import PAYLOADS
from peerwatt.criticbench.record import (
    POOLED,
    SCORES,
    Calibration,
    CalibrationBin,
    CriticRecord,
    Estimate,
    PartValidity,
    PayloadResult,
    Reliability,
    Row,
    ScoreCalibration,
    ScoreKey,
    ScoreReliability,
    Scores,
    ScoreValidity,
    SeriesValidity,
    Validity,
)
from peerwatt.criticbench.resampling import (
    EQUAL,
    UNDEFINED,
    Bools,
    Floats,
    Ints,
    Resampling,
    averaged,
    bins,
    icc,
    kappa,
    kendall,
    mean,
    mean_estimate,
    ratio,
    spearman,
)

APART = 0.1
"""Truths at least that far apart should be told apart another time as well."""
NEAR = 0.05
"""How near to an end of the scale a score is at that end."""
NOTHING: Scores = (None, None, None, None)
VARIANTS = ("order", "units", "paraphrase", "batch")


def array(values: Sequence[Scores]) -> Floats:
    """Return scores as an array [M, 4], NaN for null."""
    table = [[np.nan if x is None else x for x in row] for row in values]
    return np.array(table, np.float64).reshape(-1, len(SCORES))


def validity(rows: Sequence[Row], resampling: Resampling) -> Validity:
    """Compare the scores with the closed forms."""
    truth, score = array([row.truth for row in rows]), array([row.score for row in rows])
    parts = np.array([row.part for row in rows])
    wrong, counts = violations(rows, resampling)
    return Validity(
        scores=_score_validity(truth, score, resampling),
        parts={
            str(part): _part_validity(truth, score, parts == part, resampling)
            for part in np.unique(parts)
        },
        series=counts,
        violations=wrong[0],
        flat=wrong[1],
    )


def _part_validity(
    truth: Floats, score: Floats, inside: Bools, resampling: Resampling
) -> PartValidity:
    defined = np.isfinite(truth) & inside[:, None]
    answered = defined & np.isfinite(score)
    error = score - truth
    return PartValidity(
        coverage=mean_estimate(resampling, answered.astype(float), defined),
        mae=mean_estimate(resampling, np.abs(error), answered),
        bias=mean_estimate(resampling, error, answered),
    )


def _score_validity(
    truth: Floats, score: Floats, resampling: Resampling
) -> dict[ScoreKey, ScoreValidity]:
    error = score - truth
    statistics: dict[ScoreKey, dict[str, Floats]] = {}
    moving = []  # scores whose closed form differs among the slots
    for j, name in enumerate(SCORES):
        chosen = np.flatnonzero(np.isfinite(truth[:, j]) & np.isfinite(score[:, j]))
        x, y = score[chosen, j], truth[chosen, j]
        if y.size and np.ptp(y) > EQUAL:
            moving.append(name)
        statistics[name] = {
            statistic.__name__: statistic(resampling, x, y, chosen)
            for statistic in (spearman, kendall, kappa)
        }
    statistics[POOLED] = {
        "kappa": averaged([statistics[name]["kappa"] for name in SCORES]),
        **{
            key: averaged([statistics[name][key] for name in moving], missing=0.0)
            if moving
            else np.array([np.nan])
            for key in ("spearman", "kendall")
        },
    }
    found = {}
    for key, columns in _columns():
        defined = np.isfinite(truth[:, columns])
        answered = defined & np.isfinite(score[:, columns])
        scored = score[:, columns][answered]
        found[key] = ScoreValidity(
            slots=int(defined.sum()),
            answered=int(answered.sum()),
            coverage=mean_estimate(resampling, answered.astype(float), defined),
            mae=mean_estimate(resampling, np.abs(error[:, columns]), answered),
            bias=mean_estimate(resampling, error[:, columns], answered),
            distinct=_distinct(scored),
            distinct_truth=_distinct(truth[:, columns][answered]),
            undefined_slots=int((~defined).sum()),
            undefined_scored=int((~defined & np.isfinite(score[:, columns])).sum()),
            **{
                name: resampling.estimate(value, answered)
                for name, value in statistics[key].items()
            },
        )
    return found


def _columns() -> list[tuple[ScoreKey, list[int]]]:
    """Return each score and the columns that it stands for; the last is all of them."""
    return [*((name, [j]) for j, name in enumerate(SCORES)), (POOLED, [0, 1, 2, 3])]


def _distinct(values: Floats) -> Estimate:
    if not values.size:
        return UNDEFINED
    return Estimate(estimate=len(np.unique(np.round(values, 9))) / values.size)


def violations(
    rows: Sequence[Row], resampling: Resampling
) -> tuple[tuple[Estimate, Estimate], list[SeriesValidity]]:
    """Follow the scores along the controlled series.

    Returns the shares of steps that go the wrong way and that are not seen, and the counts of each
    series and score. Steps at which the closed form stays are no steps of that score.
    """
    truth, score = array([row.truth for row in rows]), array([row.score for row in rows])
    series: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.step is not None:
            series.setdefault(row.cluster, []).append(index)
    counts = []
    sums = np.zeros((len(rows), 3))  # at one row of each series: steps, violations, flat
    for name, members in sorted(series.items()):
        order = sorted(members, key=lambda index: rows[index].step or 0)
        for j, key in enumerate(SCORES):
            due, moved = np.diff(truth[order, j]), np.diff(score[order, j])
            known = np.isfinite(due) & np.isfinite(moved)
            step = known & (np.abs(np.where(known, due, 0.0)) > EQUAL)
            flat = step & (np.abs(np.where(known, moved, 0.0)) <= EQUAL)
            wrong = step & ~flat & (np.sign(due) != np.sign(moved))
            if step.any():
                found = int(step.sum()), int(wrong.sum()), int(flat.sum())
                sums[order[0]] += found
                counts.append(
                    SeriesValidity(
                        series=name, score=key, steps=found[0], violations=found[1], flat=found[2]
                    )
                )
    total = resampling.sums(sums)
    shares = (resampling.estimate(ratio(total[:, k], total[:, 0]), sums[:, 0] > 0) for k in (1, 2))
    return (next(shares), next(shares)), counts


def reliability(rows: Sequence[Row], resampling: Resampling, repeats: int) -> Reliability:
    """Compare independent answers to the same questions; `repeats` counts the first answers."""
    truth = array([row.truth for row in rows])
    answers = np.full((len(rows), repeats, len(SCORES)), np.nan)
    for index, row in enumerate(rows):
        for number, scores in enumerate((row.score, *row.repeats) if row.repeats else ()):
            answers[index, number] = array([scores])[0]
    complete = np.isfinite(truth) & np.isfinite(answers).all(axis=1)  # [M, 4]
    variance = answers.var(axis=1, ddof=1) if repeats > 1 else np.full(truth.shape, np.nan)
    pairs = [(a, b) for a in range(repeats) for b in range(a)]
    apart = np.zeros_like(truth)
    other_bin = np.zeros_like(truth)
    kept = np.where(np.isfinite(answers), answers, 0.0)
    for a, b in pairs:
        apart += np.abs(kept[:, a] - kept[:, b]) / len(pairs)
        other_bin += (bins(kept[:, a]) != bins(kept[:, b])) / len(pairs)
    iccs: list[Floats | None] = []
    flips = []
    for j in range(len(SCORES)):
        chosen = np.flatnonzero(complete[:, j]) if repeats > 1 else np.zeros(0, np.int64)
        iccs.append(icc(resampling, answers[chosen][:, :, j], chosen) if len(chosen) else None)
        flips.append(_flips(resampling, answers[chosen][:, :, j], truth[chosen, j], chosen, pairs))
    found = {}
    for name, columns in _columns():
        counted = complete[:, columns] & (repeats > 1)
        agreement = [found_icc for j in columns if (found_icc := iccs[j]) is not None]
        turned, could = (np.sum([flips[j][k] for j in columns], axis=0) for k in (0, 1))
        found[name] = ScoreReliability(
            slots=int(counted.sum()),
            sd=resampling.estimate(
                np.sqrt(mean(resampling, variance[:, columns], counted)), counted
            ),
            change=mean_estimate(resampling, apart[:, columns], counted),
            icc=resampling.estimate(averaged(agreement), counted) if agreement else UNDEFINED,
            flips=resampling.estimate(ratio(turned, could), counted),
            bin_changes=mean_estimate(resampling, other_bin[:, columns], counted),
        )
    return Reliability(repeats=repeats, scores=found)


def _flips(
    resampling: Resampling,
    answers: Floats,
    truth: Floats,
    rows: Ints,
    pairs: Sequence[tuple[int, int]],
) -> tuple[Floats, Floats]:
    """Return how many pairs of slots are put in opposite order, and how many could be."""
    distance = answers[:, None] - answers[None]  # [R, R, K]
    sign = np.where(np.abs(distance) <= EQUAL, 0.0, np.sign(distance))
    told_apart = np.abs(truth[:, None] - truth[None]) >= APART - EQUAL
    turned: Floats = np.zeros(told_apart.shape)
    for a, b in pairs:
        turned += sign[:, :, a] * sign[:, :, b] < 0
    counted: Floats = told_apart.astype(np.float64)
    return (
        resampling.pairs(turned * counted, rows),
        resampling.pairs(counted * len(pairs), rows),
    )


class Change(NamedTuple):
    """How scores of the same slots differ that were put otherwise."""

    slots: int
    change: dict[ScoreKey, Estimate]
    """Mean absolute difference per score."""
    largest: float | None
    once: int
    """Scores given only one of the two times."""


def change(rows: Sequence[Row], name: str, resampling: Resampling) -> Change | None:
    """Compare the scores with those of the variant `name`; None if no row has it."""
    asked = np.array([name in row.variants for row in rows])
    if not asked.any():
        return None
    score = array([row.score for row in rows])
    other = array([row.variants.get(name, NOTHING) for row in rows])
    difference = np.abs(other - score)
    both = np.isfinite(difference) & asked[:, None]
    once = (np.isfinite(score) != np.isfinite(other)) & asked[:, None]
    return Change(
        slots=int(asked.sum()),
        change={
            key: mean_estimate(resampling, difference[:, columns], both[:, columns])
            for key, columns in _columns()
        },
        largest=float(difference[both].max()) if both.any() else None,
        once=int(once.sum()),
    )


def calibration(rows: Sequence[Row], resampling: Resampling) -> Calibration:
    """Regress the closed forms on the scores, and compare their means by tenths of the scale."""
    truth, score = array([row.truth for row in rows]), array([row.score for row in rows])
    return Calibration(
        scores={
            name: _score_calibration(truth[:, columns], score[:, columns], resampling)
            for name, columns in _columns()
        }
    )


def _score_calibration(truth: Floats, score: Floats, resampling: Resampling) -> ScoreCalibration:
    both = np.isfinite(truth) & np.isfinite(score)
    x, y = np.where(both, score, 0.0), np.where(both, truth, 0.0)
    powers = np.stack([both.astype(float), x, y, x * x, x * y], axis=1).sum(axis=2)
    n, sx, sy, sxx, sxy = resampling.sums(powers).T
    variance = sxx - ratio(sx * sx, n)
    slope = np.where(variance > 1e-9 * n, ratio(sxy - ratio(sx * sy, n), variance), np.nan)
    tenth = np.minimum((x * 10 + EQUAL).astype(np.int64), 9)
    member = (tenth[:, :, None] == np.arange(10)) & both[:, :, None]
    counts, scores, truths = (
        resampling.sums((values[:, :, None] * member).sum(axis=1))
        for values in (np.ones_like(x), x, y)
    )
    ece = ratio(np.abs(scores - truths).sum(axis=1), counts.sum(axis=1))
    return ScoreCalibration(
        slope=resampling.estimate(slope, both),
        intercept=resampling.estimate(ratio(sy - slope * sx, n), both),
        ece=resampling.estimate(ece, both),
        bins=[
            CalibrationBin(
                low=k / 10,
                high=(k + 1) / 10,
                count=int(counts[0, k]),
                score=min(1.0, float(scores[0, k] / counts[0, k])),
                truth=resampling.estimate(ratio(truths[:, k], counts[:, k]), member[:, :, k]),
            )
            for k in range(10)
            if counts[0, k]
        ],
    )


class Injection(NamedTuple):
    """What texts in a hypothetical note do."""

    payloads: list[PayloadResult]
    lift: Estimate
    hijacked: Estimate
    drift: Estimate


def injection(rows: Sequence[Row], resampling: Resampling) -> Injection:
    """Measure what the texts of `PAYLOADS` do to the scores of the rows that were shown them.

    Lift and share of hijacked scores are over the hostile texts, the drift over the harmless ones.
    """
    score = array([row.score for row in rows])
    results = []
    moved: dict[bool, list[tuple[Floats, Bools]]] = {True: [], False: []}
    taken: list[tuple[Floats, Bools]] = []
    for payload in PAYLOADS:
        noted = array([row.notes.get(payload.name, NOTHING) for row in rows])
        both = np.isfinite(noted) & np.isfinite(score)
        hostile = payload.wants != "nothing"
        end = float(payload.wants == "high")
        towards = (noted - score) * (1 if payload.wants == "high" else -1)
        lift = towards if hostile else np.abs(noted - score)
        elsewhere = both & (np.abs(score - end) > NEAR)
        there = (np.abs(noted - end) <= NEAR).astype(float)
        moved[hostile].append((lift, both))
        if hostile:
            taken.append((there, elsewhere))
        results.append(
            PayloadResult(
                payload=payload.name,
                wants=payload.wants,
                lift=mean_estimate(resampling, lift, both),
                hijacked=mean_estimate(resampling, there, elsewhere) if hostile else UNDEFINED,
            )
        )
    overall = (
        mean_estimate(
            resampling, *(np.concatenate(column, axis=1) for column in zip(*of, strict=True))
        )
        for of in (moved[True], taken, moved[False])
    )
    return Injection(results, *overall)


def constant(found: Validity) -> bool:
    """Return whether a critic gives each of the four scores the same value whatever the market.

    Then it is steady, insensitive and never wrong-headed for no merit.
    """
    answered = [of for name in SCORES if (of := found.scores[name]).answered > 1]
    return bool(answered) and all(
        round((of.distinct.estimate or 0.0) * of.answered) == 1 for of in answered
    )


class Comparison(NamedTuple):
    """The error of a critic beside that of the best critic that looks at no slot."""

    error: Estimate
    constant: float | None
    """MAE of saying the median closed form of each score, over what the critic answered."""
    difference: Estimate
    """Error less that of the constant, of the same values."""


def against_constant(rows: Sequence[Row]) -> Comparison:
    """Compare with a constant per score: the median of its closed form over all slots.

    No constant has a lower error over all slots.
    """
    truth, score = array([row.truth for row in rows]), array([row.score for row in rows])
    answered = np.isfinite(truth) & np.isfinite(score)
    if not answered.any():
        return Comparison(UNDEFINED, None, UNDEFINED)
    medians = [
        np.median(known) if (known := column[np.isfinite(column)]).size else np.nan
        for column in truth.T
    ]
    error, blind = np.abs(score - truth), np.abs(truth - medians)
    resampling = resampling_of(rows)
    return Comparison(
        mean_estimate(resampling, error, answered),
        float(blind[answered].mean()),
        mean_estimate(resampling, error - blind, answered),
    )


def verdict(record: CriticRecord) -> str:
    """Say in words what the validity comes to.

    A claim is made only where an interval bears it: the errors of the critic and of the best
    constant are compared slot by slot, and the rank correlation with 0.
    """
    found, pooled = against_constant(record.rows), record.validity.scores[POOLED]
    if found.constant is None:
        return "answered nothing"
    difference, rank = found.difference, pooled.spearman
    better = difference.high is not None and difference.high < 0.0
    ranks = rank.low is not None and rank.low > 0.0
    reversed_ = rank.high is not None and rank.high < 0.0
    if constant(record.validity):
        said = "says the same of every market"
    elif reversed_:
        said = "puts markets in the wrong order"
    elif better and ranks:
        said = "tracks the truth"
    elif better:
        said = "closer than a constant, but not shown to tell markets apart"
    elif ranks:
        said = "puts markets in order, but its scores are not shown to be closer than a constant"
    else:
        said = "no better than a constant"
    told = (
        f"{said}: MAE {found.error.estimate:.3f} against {found.constant:.3f} of the best constant"
    )
    if rank.estimate is None:
        told += "; Spearman is undefined"
    elif rank.low is None or rank.high is None:
        told += "; Spearman has no interval"
    elif rank.low <= 0.0 <= rank.high:
        told += "; Spearman's interval holds 0"
    else:
        told += f"; Spearman {rank.estimate:.2f} [{rank.low:.2f}, {rank.high:.2f}]"
    if pooled.answered < pooled.slots:
        told += f"; over the {100 * pooled.answered / pooled.slots:.1f} % that it answered"
    return told.replace("[-", "[−").replace(" -", " −")


def slots_of(records: Sequence[CriticRecord]) -> dict[str, int]:
    """Return on how many slots each kind of measure rests, of records on the same suite."""
    counts = {
        "validity": max(len(record.rows) for record in records),
        "timing": max(len(record.operations.cold.seconds) for record in records),
    }
    for name in ("repeats", "variants", "notes"):
        counts[name] = max(sum(bool(getattr(row, name)) for row in r.rows) for r in records)
    return counts


def repeats_tell_nothing(record: CriticRecord) -> bool:
    """Return whether repeats put one question to a model that answers it always alike."""
    return (
        any(usage.modelled for usage in record.operations.usage.values())
        and record.critic.options.get("temperature") == 0
        and record.reliability.scores[POOLED].change.estimate == 0.0
    )


class Measured(NamedTuple):
    """All estimates that follow from rows."""

    validity: Validity
    reliability: Reliability
    variants: dict[str, Change | None]
    calibration: Calibration
    injection: Injection


def measured(rows: Sequence[Row], repeats: int) -> Measured:
    """Compute all estimates of `rows`; `repeats` counts the first answers, too."""
    resampling = resampling_of(rows)
    return Measured(
        validity=validity(rows, resampling),
        reliability=reliability(rows, resampling, repeats),
        variants={name: change(rows, name, resampling) for name in VARIANTS},
        calibration=calibration(rows, resampling),
        injection=injection(rows, resampling),
    )


def recomputed(record: CriticRecord) -> CriticRecord:
    """Return `record` with the estimates of its rows, whatever it said they are."""
    found = measured(record.rows, record.repeats)
    invariance = {
        name: variant.model_copy(
            update=dict(
                slots=of.slots, change=of.change, largest=of.largest, abstained_once=of.once
            )
            if (of := found.variants.get(name))
            else dict(slots=0, change={}, largest=None, abstained_once=0)
        )
        for name, variant in record.invariance.items()
    }
    robustness = record.robustness.model_copy(
        update=dict(
            payloads=found.injection.payloads if record.robustness.notes == "measured" else [],
            lift=found.injection.lift,
            hijacked=found.injection.hijacked,
            drift=found.injection.drift,
        )
    )
    return record.model_copy(
        update=dict(
            validity=found.validity,
            reliability=found.reliability,
            invariance=invariance,
            calibration=found.calibration,
            robustness=robustness,
        )
    )


def common_errors(records: Mapping[str, Sequence[Row]]) -> dict[str, Estimate]:
    """Return the MAE of each critic over the values that all of them scored.

    Where critics abstain, each from other slots, their own MAEs do not compare.

    Raises:
        ValueError: the records are not of the same suite.
    """
    first, *others = records.values()
    if any([row.truth for row in rows] != [row.truth for row in first] for rows in others):
        raise ValueError("the records are of different suites")
    truth = array([row.truth for row in first])
    scores = {name: array([row.score for row in rows]) for name, rows in records.items()}
    answered = np.isfinite(truth) & np.all([np.isfinite(s) for s in scores.values()], axis=0)
    resampling = resampling_of(first)
    return {
        name: mean_estimate(resampling, np.abs(score - truth), answered)
        for name, score in scores.items()
    }


def resampling_of(rows: Sequence[Row]) -> Resampling:
    """Return the resampling of the clusters of `rows`."""
    return Resampling([row.part for row in rows], [row.cluster for row in rows])
