"""Adding seeds to BASE, with the installation that made it, and to NEW, with the code here."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.entries import read_boards
from peerwatt.runs.regression.again import config_of, words_of
from peerwatt.runs.regression.pairing import Pair
from peerwatt.runs.runner import run_all


def seeds_for(pair: Pair, size: int, growing: bool) -> list[int]:
    """Return the seeds that NEW and BASE should have for a look at `size` common ones.

    First what both have, then what BASE has; if BASE is `growing`, then the seeds after the last.
    """
    base = pair.runs("base").keys()
    wanted = [*pair.seeds, *sorted(base - set(pair.seeds))]
    if growing:
        after = max(base | pair.runs("new").keys()) + 1
        wanted += range(after, after + max(0, size - len(wanted)))
    return wanted[:size]


def add_to_new(pairs: Sequence[tuple[Pair, list[int]]], results: Path, console: Console) -> None:
    """Run the seeds that NEW lacks with the installed code.

    Raises:
        PeerWattError: the installed code does not make the runs of NEW, or a run fails.
    """
    configs = []
    for pair, seeds in pairs:
        have = pair.runs("new")
        config = config_of(pair.new.first)
        configs += [dataclasses.replace(config, seed=s) for s in seeds if s not in have]
    done = run_all(configs, results, console=console)
    if done.failures:
        label, failure = next(iter(done.failures.items()))
        raise PeerWattError(f"NEW: {label}: {shown(failure.sentence, 500)}")


def add_to_base(pairs: Sequence[tuple[Pair, list[int]]], results: Path, program: Path) -> None:
    """Run the seeds that BASE lacks with another installation.

    Args:
        pairs: each with the seeds it should have.
        results: folder of BASE.
        program: the `peerwatt` of that installation.

    Raises:
        PeerWattError: it cannot be told what to run, it fails, or it makes other runs.
    """
    orders = []
    for pair, seeds in pairs:
        config_of(pair.new.first)  # before anything is run for runs that NEW cannot follow
        lacking = [seed for seed in seeds if seed not in pair.runs("base")]
        orders += [(pair, block, words_of(pair.base.first, *block)) for block in _blocks(lacking)]
    for pair, (first, count), words in orders:
        try:
            done = subprocess.run(
                [str(program.absolute()), *words, "--results", str(results)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        except OSError as error:
            raise PeerWattError(
                f"--base-peerwatt {program}: {error.strerror}; name the `peerwatt` of the other "
                "installation, such as base/bin/peerwatt."
            ) from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise PeerWattError(f"BASE: {pair.title}: {shown(last, 500)}")
        if not {*range(first, first + count)} <= _seeds_of(pair.base.first.config_hash, results):
            raise PeerWattError(
                f"BASE: {pair.title}: {program} made runs of another configuration than "
                f"{pair.base.first.config_hash[:8]}, which the record of BASE states: name the "
                f"installation that made {results} with --base-peerwatt, and remove from there "
                f"what was made just now (seeds {first} to {first + count - 1})."
            )


def _seeds_of(config_hash: str, results: Path) -> set[int]:
    """Return the seeds of the runs of one configuration."""
    return {
        run.result.seed
        for board in read_boards(results)
        for entry in board.entries
        for run in entry.runs
        if run.result.config_hash == config_hash
    }


def _blocks(seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Return first and length of each run of seeds that follow one another."""
    groups = itertools.groupby(enumerate(sorted(seeds)), key=lambda item: item[1] - item[0])
    members = [[seed for _, seed in group] for _, group in groups]
    return [(group[0], len(group)) for group in members]
