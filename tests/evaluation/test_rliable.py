"""Our statistics against those of rliable 1.2.0, on the same scores.

rliable cannot share our environment: through `arch` it does not import beside pandas 3. So the test
makes a virtual environment of its own with

    python -m venv VENV
    VENV/bin/python -m pip install rliable==1.2.0 "pandas<3"

runs the script below in it, and hands scores and answers over as JSON. It is skipped where pip
reaches no package index. rliable ignores the seed that one gives it (its sampler draws from numpy's
global generator, which the script seeds instead): point estimates must agree to rounding, interval
bounds up to the Monte Carlo error of both bootstraps. What is compared is the stratified percentile
bootstrap at one level; of one entry we read it off at another level than the nominal one, and for
shares of runs we give score intervals (docs/statistics.md), which rliable does not have.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from peerwatt.evaluation.resampling import expanded
from peerwatt.evaluation.statistics import (
    bootstrap_difference,
    bootstrap_iqm,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)

PACKAGES = ["rliable==1.2.0", "pandas<3"]
OUT_OF_REACH = ("No matching distribution", "Failed to establish", "Could not fetch", "timed out")
THRESHOLDS = [-0.5, 0.0, 0.25, 0.5, 0.9]
REPS = 4_000
TOLERANCE = 0.08
"""Of the width of an interval: five standard errors of a bound with 4,000 resamples."""

SCRIPT = """
import json, sys
import numpy as np
from rliable import library, metrics

given = json.load(sys.stdin)
answers = []
for case in given["cases"]:
    np.random.seed(0)  # the only seed that it heeds
    a, b = np.array(case["a"]), np.array(case["b"])

    def interval(scores, statistic, size):
        points, bounds = library.get_interval_estimates(
            {"x": scores}, lambda *x: np.array([statistic(*x)]), reps=given["reps"],
            confidence_interval_size=size,
        )
        return [float(points["x"][0]), *map(float, bounds["x"][:, 0])]

    def difference(a, b):
        return metrics.aggregate_iqm(a) - metrics.aggregate_iqm(b)

    answers.append({
        "iqm": interval(a, metrics.aggregate_iqm, case["level"]),
        "gap": interval(a, metrics.aggregate_optimality_gap, case["level"]),
        "difference": interval([a, b], difference, 0.95),
        "improvement": float(metrics.probability_of_improvement(a, b)),
        "profile": library.score_distributions(a, given["thresholds"]).tolist(),
    })
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def rliable(tmp_path_factory):
    """Return a function that runs `SCRIPT` where rliable is installed."""
    folder = tmp_path_factory.mktemp("rliable")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, env=environment)
    python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "20"]
    done = subprocess.run([*pip, *PACKAGES], capture_output=True, text=True, env=environment)
    if done.returncode and any(reason in done.stderr for reason in OUT_OF_REACH):
        pytest.skip(f"no package index in reach: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr

    def ask(cases):
        given = {"cases": cases, "thresholds": THRESHOLDS, "reps": REPS}
        done = subprocess.run(
            [python, "-c", SCRIPT],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def scores(name, runs, tasks):
    draws = np.random.default_rng([runs, tasks])
    values = draws.normal(0.3 * np.arange(tasks), 0.4, (2, runs, tasks))
    if name == "ties":
        values = np.round(4 * values) / 4
    values[0] += 0.2
    return values


CASES = [("normal", 10, 1), ("normal", 10, 4), ("ties", 10, 4), ("normal", 20, 3)]


@pytest.mark.slow
def test_our_statistics_agree_with_rliable(rliable):
    pairs = [scores(*case) for case in CASES]
    levels = [expanded(0.95, a.T) for a, _ in pairs]
    answers = rliable(
        [
            {"a": a.tolist(), "b": b.tolist(), "level": level}
            for (a, b), level in zip(pairs, levels, strict=True)
        ]
    )
    for case, (a, b), theirs in zip(CASES, pairs, answers, strict=True):
        generator = np.random.default_rng(1)
        ours = {
            "iqm": bootstrap_iqm(a, generator, resamples=20_000),
            "gap": optimality_gap(a, generator, resamples=20_000),
            "difference": bootstrap_difference(a, b, generator, resamples=20_000),
        }
        for name, interval in ours.items():
            width = interval.high - interval.low
            assert interval.estimate == pytest.approx(theirs[name][0], abs=1e-12), (case, name)
            assert interval == pytest.approx(theirs[name], abs=TOLERANCE * width), (case, name)
        chance = probability_of_improvement(a, b).estimate
        assert chance == pytest.approx(theirs["improvement"], abs=1e-12), case
        share = performance_profile(a, THRESHOLDS).share
        assert share.tolist() == pytest.approx(theirs["profile"], abs=1e-12), case
