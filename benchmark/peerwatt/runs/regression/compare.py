"""BASE against NEW: golden files, scripted traders, failed and missing runs, learners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from peerwatt.errors import PeerWattError
from peerwatt.runs.regression.adding import add_to_base, add_to_new, seeds_for
from peerwatt.runs.regression.again import check_addable
from peerwatt.runs.regression.findings import Finding, Report
from peerwatt.runs.regression.golden import (
    GOLDEN_FILE,
    Golden,
    compare_golden,
    count_shared,
    make_golden,
    read_golden,
    unmatched,
)
from peerwatt.runs.regression.learners import Settings, compare_learners
from peerwatt.runs.regression.looks import Looks
from peerwatt.runs.regression.pairing import Pair, Paired, lost_seeds, missing_runs, pair
from peerwatt.runs.regression.scripted import compare_scripted, other_scenarios


def compare(base: Path, new: Path, settings: Settings) -> Report:
    """Compare two folders once; on a folder that was looked at before, count the looks.

    Raises:
        PeerWattError: a folder cannot be read, or the two have nothing in common.
    """
    exact = compare_files(base, new)
    paired = pair(base, new)
    looks = Looks(new, settings)
    report = _report(base, new, settings, paired, exact, looks)
    looks.note(report)
    return report


def compare_until_decided(
    base: Path,
    new: Path,
    settings: Settings,
    *,
    most: int,
    program: Path | None,
    console: Console,
    told: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Compare, and add seeds to both until it is decided or the planned looks are used up.

    Args:
        base: folder of BASE.
        new: folder of NEW, whose seeds are added with the installed code.
        settings: how learners are judged.
        most: seeds of the last look.
        program: the `peerwatt` of the installation that makes seeds of BASE; without it there are
            no more than BASE has.
        console: where progress goes.
        told: gets the report of each look.

    Raises:
        PeerWattError: as of `compare`, or seeds cannot be added.
    """
    exact = compare_files(base, new)
    paired = pair(base, new)
    learners = learning(paired)
    if program is None and learners:
        most = min(most, max(len(item.base.runs) for item in learners))
    for item in learners:
        if item.other_seeds:
            raise PeerWattError(
                f"{item.title}: no seed is in both {base} and {new}; --until-decided adds seeds to "
                "those that are in both: run NEW with the seeds of BASE."
            )
        for entry in (item.base, item.new):
            check_addable(entry.first)
    looks = Looks(new, settings)
    lost = [(item, [*item.seeds, *lost_seeds(item, new)]) for item in learners]
    lost = [(item, seeds) for item, seeds in lost if len(seeds) > len(item.seeds)]
    if learners and not looks.planned:
        at_first = max(len(seeds) for _, seeds in [*lost, *((i, i.seeds) for i in learners)])
        if most < at_first:
            raise PeerWattError(f"--max-seeds {most}: there are {at_first} seeds already.")
        looks.begin(at_first, most)
    if lost:  # what is missing may be what is worse
        add_to_new(lost, new, console)
        paired = pair(base, new)
    while True:
        report = _report(base, new, settings, paired, exact, looks)
        told(report)
        wanting = _wanting(report, learning(paired))
        sizes = [(item, looks.next_size(item)) for item in wanting]
        orders = [
            (item, seeds_for(item, size, program is not None)) for item, size in sizes if size
        ]
        lacking = [(item, seeds) for item, seeds in orders if set(seeds) - set(item.seeds)]
        if report.outcome == "regression" or not lacking:
            looks.note(report)
            return report
        if program is not None:
            add_to_base(lacking, base, program)
        add_to_new(lacking, new, console)
        before = {item.key: len(item.seeds) for item in learning(paired)}
        paired = pair(base, new)
        if all(len(item.seeds) == before.get(item.key) for item in learning(paired)):
            raise PeerWattError(
                "the seeds that were added do not pair with those that were there: was BASE made "
                "by the installation that --base-peerwatt names?"
            )


def learning(paired: Paired) -> list[Pair]:
    """Return the pairs of learners that have something to compare."""
    return [item for item in paired.pairs if not item.scripted and item.seeds]


def compare_files(base: Path, new: Path) -> tuple[list[Finding], list[str]]:
    """Compare the golden file of BASE, if there is one, with that of NEW or with the code here.

    Returns:
        Findings and warnings.

    Raises:
        PeerWattError: a file is malformed.
    """
    there, here = base / GOLDEN_FILE, new / GOLDEN_FILE
    if not there.exists():
        warning = (
            f"{base} has no {GOLDEN_FILE}: clearing, settlement and random play are not compared; "
            f"`peerwatt golden {base}` with the code of BASE writes it."
        )
        return [], [warning]
    before = read_golden(there)
    now = read_golden(here) if here.exists() else make_golden()
    where = "NEW" if here.exists() else "the installed code"
    return golden_findings(before, now, where), unmatched(before, now)


def golden_findings(base: Golden, new: Golden, where: str) -> list[Finding]:
    """Return one finding for each difference, or one that tells that all is the same."""
    changes = compare_golden(base, new)
    if not changes:
        text = f"all {count_shared(base, new)} values that both have are the same in {where}."
        return [Finding("golden", "golden file", "no worse", text)]
    return [
        Finding("golden", f"{change.layer} {change.case}", "regression", change.text)
        for change in changes
    ]


def _report(
    base: Path,
    new: Path,
    settings: Settings,
    paired: Paired,
    exact: tuple[list[Finding], list[str]],
    looks: Looks,
) -> Report:
    """Judge what is there."""
    findings, warnings = [*exact[0], *paired.findings], [*exact[1], *paired.warnings]
    comparable = []
    for item in paired.pairs:
        missing, warning = missing_runs(item, new, looks.known(item))
        findings += [missing] if missing else []
        warnings += [warning] if warning else []
        if not item.seeds:
            continue
        if (other := other_scenarios(item)) is not None:
            findings.append(other)
        elif item.scripted:
            findings.append(compare_scripted(item))
        else:
            comparable.append(item)
    warnings += looks.look(comparable)
    seen = {item.key: looks.of(item) for item in comparable}
    count = looks.count(comparable)
    findings += compare_learners(comparable, settings, seen, count)
    findings += [_waiting(item, looks) for item in comparable if not seen[item.key]]
    if count > max(1, len(looks.planned)):
        warnings.append(
            f"{new} was looked at without a plan before, so that each p-value counts {count} times "
            "and the chance of a false alarm over all looks is still more than "
            f"{settings.alpha:g}: only --until-decided from the start keeps it."
        )
    if not findings:
        raise PeerWattError(
            f"{base} and {new} have nothing in common to compare: give two folders with runs of "
            f"the same entries, or with a {GOLDEN_FILE} (`peerwatt golden {base}`)."
        )
    return Report(
        base=str(base),
        new=str(new),
        alpha=settings.alpha,
        findings=tuple(findings),
        warnings=tuple(warnings),
        looks=looks.planned,
    )


def _waiting(pair: Pair, looks: Looks) -> Finding:
    """Say what lacks of a pair for the first look of the plan, or for the one that was made."""
    asked, first = looks.asked(pair), looks.planned[0]
    if asked:
        lost = ", ".join(str(seed) for seed in asked if seed not in pair.seeds)
        text = f"seeds that the plan has looked at are there no more ({lost}): run them again."
    else:
        text = (
            f"{len(pair.seeds)} common seeds; the plan looks first at {first}: add "
            f"{first - len(pair.seeds)} seeds."
        )
    return Finding("learners", pair.title, "undecided", text)


def _wanting(report: Report, pairs: list[Pair]) -> list[Pair]:
    """Return the pairs of which something demanded is undecided."""
    titles = {
        finding.subject
        for finding in report.findings
        if finding.layer == "learners" and finding.demanded and finding.outcome == "undecided"
    }
    return [item for item in pairs if item.title in titles]
