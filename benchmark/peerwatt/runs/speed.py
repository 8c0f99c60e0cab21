"""Is this installation slower than another? Paired rounds in turn, and a verdict on the ratios.

Seconds say little on a machine that others use too, so nothing is compared with a figure of
yesterday: both installations are measured in the same minutes, one after the other, the first one
changing from round to round. What is judged are the logarithms of new / base, by the sign-flip test
of `peerwatt.evaluation.verdict`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from peerwatt.errors import PeerWattError, shown
from peerwatt.evaluation.verdict import ALPHA, Outcome, Test, decide, sign_flip
from peerwatt.runs.speed_probe import FORMAT, Rates

Measure = Literal["market", "training"]

MEASURED: dict[Measure, str] = {"market": "market stepping", "training": "IPPO training"}
"""What is compared: key of `Rates` -> words."""
LEAST_ROUNDS, MOST_ROUNDS = 6, 200
"""With fewer no slowdown, however clear, could be significant in one of two measures."""
LIMIT_SECONDS = 600
HERE = (sys.executable, "-P", "-c", "from peerwatt.cli.main import main; main()")
"""Command that starts this installation."""
CALM = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
"""Variables that would make the other installation import the code of this one."""


@dataclass(frozen=True)
class Ratio:
    """One measure: how fast the new installation is against the base."""

    key: Measure
    base: float
    """Median agent-steps per CPU-second of the base."""
    new: float
    ratio: float
    """Geometric mean of new / base over the rounds."""
    low: float
    """One-sided 95 % bounds of it, by the test that judges: *no worse* is `low` > 1 - margin."""
    high: float
    outcome: Outcome
    more: int
    """Rounds that were too few: with as many more it would likely have been decided."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    base_version: str
    new_version: str
    task: str
    rounds: int
    margin: float
    ratios: tuple[Ratio, ...]

    @property
    def outcome(self) -> Outcome:
        """*Regression* if any measure says so, *no worse* if all do."""
        found = [ratio.outcome for ratio in self.ratios]
        if "regression" in found:
            return "regression"
        return "no worse" if set(found) == {"no worse"} else "undecided"

    @property
    def sentence(self) -> str:
        """Why the outcome is what it is."""
        of = {
            outcome: [MEASURED[r.key] for r in self.ratios if r.outcome == outcome]
            for outcome in ("regression", "undecided")
        }
        if of["regression"]:
            slower = ", ".join(
                f"{MEASURED[r.key]} by {1 - r.ratio:.1%}"
                for r in self.ratios
                if r.outcome == "regression"
            )
            return f"significantly slower: {slower}."
        if of["undecided"]:
            wanted = self.rounds + max(r.more for r in self.ratios)
            mend = (
                f"a new measurement of about {wanted} rounds would probably tell (--rounds "
                f"{wanted})"
                if wanted <= MOST_ROUNDS
                else f"{MOST_ROUNDS} rounds, the most there can be, would probably not tell "
                "either: measure on a calmer machine, or with a wider --margin"
            )
            return (
                f"whether {' and '.join(of['undecided'])} is slower by less than {self.margin:.0%} "
                f"is open: {mend}. Each repetition may raise a false alarm anew, in up to "
                f"{ALPHA:.0%}: do not repeat until the verdict pleases."
            )
        return f"nothing is slower by {self.margin:.0%} or more."


def compare(
    against: str,
    task: str,
    *,
    rounds: int,
    margin: float,
    told: Callable[[int], None] = lambda done: None,
) -> Comparison:
    """Measure this installation against that of the executable `against`.

    Args:
        against: path of the other `peerwatt`.
        task: name of the task that both play.
        rounds: pairs of measurements, after one that does not count.
        margin: slowdown that would not matter, as a share.
        told: takes the number of rounds done.

    Raises:
        PeerWattError: an argument is out of range, an installation cannot be measured, or their
            tasks differ.
    """
    if not LEAST_ROUNDS <= rounds <= MOST_ROUNDS:
        raise PeerWattError(f"--rounds {rounds} must lie in {LEAST_ROUNDS}..{MOST_ROUNDS}.")
    if not 0 < margin < 1:
        raise PeerWattError(f"--margin {margin} must lie between 0 and 1, as in 0.1 for 10 %.")
    other = executable(against)
    # The first round compiles, and shows whether both can be measured at all.
    base, new = measure((other,), task), measure(HERE, task)
    if base["task"] != new["task"]:
        raise PeerWattError(
            f"task {task!r} is another one in {other} ({base['task'][:8]}, here "
            f"{new['task'][:8]}): choose one that both share with --task."
        )
    pairs: list[tuple[Rates, Rates]] = []
    for k in range(rounds):
        told(k)
        if k % 2:
            second, first = measure(HERE, task), measure((other,), task)
        else:
            first, second = measure((other,), task), measure(HERE, task)
        pairs.append((first, second))
    told(rounds)
    return Comparison(
        base_version=base["version"],
        new_version=new["version"],
        task=task,
        rounds=rounds,
        margin=margin,
        ratios=judge(pairs, margin),
    )


def judge(pairs: Sequence[tuple[Rates, Rates]], margin: float) -> tuple[Ratio, ...]:
    """Return the ratio of each measure over `pairs` of (base, new), with what it says."""
    generator = np.random.default_rng(0)
    rates = {key: np.array([[b[key], n[key]] for b, n in pairs]) for key in MEASURED}
    tests = [
        Test((sign_flip(np.diff(np.log(of_key))[:, 0], generator),), -math.log1p(-margin))
        for of_key in rates.values()
    ]
    found = []
    for key, decision in zip(MEASURED, decide(tests, alpha=ALPHA), strict=True):
        base, new = np.median(rates[key], axis=0)
        ratio, low, high = map(math.exp, (decision.estimate, decision.low, decision.high))
        found.append(
            Ratio(key, float(base), float(new), ratio, low, high, decision.outcome, decision.more)
        )
    return tuple(found)


def executable(against: str) -> str:
    """Return the path of the program `against`.

    Raises:
        PeerWattError: there is no such program.
    """
    found = shutil.which(os.path.expanduser(against))
    if found is None or not against:
        raise PeerWattError(
            f"--against {shown(against)!r} is no program: give the path of the other "
            "installation's peerwatt, as in --against old/bin/peerwatt."
        )
    return os.path.abspath(found)


def measure(command: Sequence[str], task: str) -> Rates:
    """Return what the installation that `command` starts measures of itself.

    Raises:
        PeerWattError: it fails, takes too long or answers something else.
    """
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    if command is HERE:
        environment |= {name: os.environ[name] for name in OURS if name in os.environ}
    environment |= dict.fromkeys(CALM, "1")
    where = "this installation" if command is HERE else command[0]
    try:
        done = subprocess.run(
            [*command, "--no-plugins", "speed", "probe", task],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise PeerWattError(f"{where} took more than {LIMIT_SECONDS} s for one round.") from None
    except OSError as error:
        raise PeerWattError(f"{where} cannot be started: {error.strerror}.") from None
    last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
    if done.returncode == 2 and "unknown command" in last:
        raise PeerWattError(
            f"{where} is a PeerWatt that cannot be measured yet: it has no command `speed`; "
            "install a newer one there."
        )
    if done.returncode:
        raise PeerWattError(
            f"{where} failed with exit code {done.returncode}: "
            f"{shown(last.removeprefix('peerwatt: '))}"
        )
    return _rates(done.stdout, where)


def _rates(answer: str, where: str) -> Rates:
    """Read the last line of what a probe printed."""
    try:
        found = json.loads(answer.strip().splitlines()[-1])
        numbers = [float(found[key]) for key in MEASURED]
        valid = all(isinstance(found[key], str) for key in ("task", "version"))
    except (ValueError, LookupError, TypeError):
        found, numbers, valid = None, [], False
    if not valid or not all(0 < number < math.inf for number in numbers):
        raise PeerWattError(
            f"{where} printed {shown(answer, 80)!r}, which is no measurement: is it a `peerwatt`?"
        )
    if found["format"] != FORMAT:
        raise PeerWattError(
            f"{where} measures in format {shown(str(found['format']), 20)}, expected {FORMAT}: "
            "the two installations do not compare."
        )
    return cast(Rates, found)
