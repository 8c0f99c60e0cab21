"""`peerwatt submit`: make, check, replay and remove entries of the leaderboard.

`validate`, and `verify` without `--run-code`, run with no plugin but PeerWatt's own:
`peerwatt.cli.main` sees to it before any plugin is loaded.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import tyro

from peerwatt.errors import PeerWattError, unknown_name

RESULTS = Path("leaderboard/results")
SHOWN_DIFFERENCES = 10


@dataclasses.dataclass(frozen=True)
class PackOptions:
    """Make the folder of an entry from finished runs, check it, and tell what it publishes.

    A pull request that adds the folder below leaderboard/results submits it.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_FOLDER")]
    """Folders of the runs of one entry: with its seed folders, or these themselves."""
    name: str
    """Who submits: a person or a group, as the page shows it."""
    contact: str
    """Mail address, handle or web address, as the page shows it."""
    out: Path = RESULTS
    """Results root that the entry is added to."""
    code_url: str | None = None
    """Where the code of the algorithm is, https only."""
    licence: str = "MIT"
    """SPDX name of the licence of the records and policies."""
    tuned_on_test: bool = False
    """Disclose: choices were made by looking at test scenarios."""
    external_data: bool = False
    """Disclose: trained on data beyond the task's own."""
    llm_in_training: bool = False
    """Disclose: a language model took part in the training."""
    supersedes: str | None = None
    """entry_id of your entry that this one corrects."""


@dataclasses.dataclass(frozen=True)
class ValidateOptions:
    """Check an entry, or a whole results root, without executing anything of it.

    The exit code is 2 if anything is refused; each refusal is one sentence.
    """

    path: Annotated[Path, tyro.conf.Positional]
    """Folder of an entry, or a results root."""
    base: Path | None = None
    """Results root of the base branch: what is in it may be neither changed nor missing."""
    maintainer: bool = False
    """Allow what maintainers may do: lines added to the ledger, removals that it tells."""
    json: bool = False
    """Print the report as JSON."""


@dataclasses.dataclass(frozen=True)
class VerifyOptions:
    """Check an entry, then play its policies again on the test scenarios of its task.

    The exit code is 1 if the episodes are not reproduced.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of the entry."""
    run_code: bool = False
    """Run installed code of strangers, where the entry needs it: its algorithm, task, mechanism."""
    seeds: int | None = None
    """How many seeds to replay, the lowest first; by default all."""
    record: bool = False
    """Write the verdict to the ledger of the results root; for maintainers."""


@dataclasses.dataclass(frozen=True)
class RemoveOptions:
    """Remove an entry: tell the ledger why, and delete its folder; for maintainers."""

    entry_id: Annotated[str, tyro.conf.Positional]
    """The entry's id, or at least the 16 digits that its folder is named by."""
    reason: str
    """Why, in a line; the page shows it."""
    results: Path = RESULTS
    """Results root."""


def run(arguments: list[str]) -> None:
    """Run the subcommand that `arguments` name."""
    commands: dict[str, tuple[type, Callable[..., None]]] = {
        "pack": (PackOptions, _pack),
        "validate": (ValidateOptions, _validate),
        "verify": (VerifyOptions, _verify),
        "remove": (RemoveOptions, _remove),
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: peerwatt submit {pack,validate,verify,remove} [OPTIONS]\n")
        for name, (options, _) in commands.items():
            print(f"  {name:<9} {(options.__doc__ or '').splitlines()[0]}")
        return
    if arguments[0] not in commands:
        raise unknown_name("command", f"submit {arguments[0]}", [f"submit {n}" for n in commands])
    options, command = commands[arguments[0]]
    command(tyro.cli(options, prog=f"peerwatt submit {arguments[0]}", args=arguments[1:]))


def _pack(options: PackOptions) -> None:
    from peerwatt.submissions.entry import Disclosure
    from peerwatt.submissions.pack import Details, find_runs, pack, published
    from peerwatt.submissions.verify import foreign

    details = Details(
        name=options.name,
        contact=options.contact,
        code_url=options.code_url,
        licence=options.licence,
        disclosure=Disclosure(
            tuned_on_test=options.tuned_on_test,
            external_data=options.external_data,
            llm_in_training=options.llm_in_training,
        ),
        supersedes=options.supersedes,
    )
    packed = pack(find_runs(options.runs), options.out, details)
    for warning in packed.warnings:
        print(f"peerwatt: warning: {warning}.", file=sys.stderr)
    print(f"entry {packed.record.entry_id}")
    print(f"folder: {packed.folder}")
    print("Whoever merges it publishes:")
    for line in published(packed):
        print(f"  {line}")
    code = " --run-code" if foreign(packed.record) else ""
    print(f"Next: peerwatt submit verify {packed.folder}{code}")


def _validate(options: ValidateOptions) -> None:
    from peerwatt.submissions.collection import read_entry_in_place, read_results
    from peerwatt.submissions.validate import is_entry

    problems: list[str] = []
    published: set[str] = set()
    if is_entry(options.path):
        if options.base is not None:
            raise PeerWattError("--base goes with a results root, not with the folder of an entry.")
        try:
            entries = [read_entry_in_place(options.path)]
        except PeerWattError as error:
            entries, problems = [], [str(error)]
    else:
        results = read_results(options.path, options.base, options.maintainer)
        entries, problems = results.entries, results.problems
        published = {e.header.entry_id for e in entries if results.standing(e)[0]}
    if options.json:
        content = {
            "valid": not problems,
            "entries": [
                {
                    "folder": entry.folder.as_posix(),
                    "entry_id": entry.header.entry_id,
                    "outdated": entry.outdated,
                    "supersedes": entry.header.supersedes,
                }
                for entry in entries
            ],
            "refused": problems,
        }
        print(json.dumps(content, indent=1))
    else:
        for entry in entries:
            state = f"outdated ({entry.outdated})" if entry.outdated else "valid"
            print(f"{state}: {entry.folder}")
            header = entry.header
            if header.supersedes is not None and header.entry_id not in published:
                owner = header.submitter.name
                print(f"  supersedes {header.supersedes} of {owner} (confirm with the owner)")
        for problem in problems:
            print(f"peerwatt: {problem}", file=sys.stderr)
        told = "entry is as it" if len(entries) == 1 else "entries are as they"
        print(f"{len(entries)} {told} should be; {len(problems)} refused")
    if problems:
        sys.exit(2)


def _verify(options: VerifyOptions) -> None:
    from peerwatt.runs.provenance import environment
    from peerwatt.submissions.collection import read_entry_in_place
    from peerwatt.submissions.guards import ENTRY_LEVEL
    from peerwatt.submissions.ledger import Verified, append, today
    from peerwatt.submissions.verify import bias, foreign, replay, version_notes

    if options.seeds is not None and options.seeds < 1:
        raise PeerWattError(f"--seeds {options.seeds} must be at least 1.")
    entry = read_entry_in_place(options.folder)
    record = entry.record
    if record is None:
        raise PeerWattError(f"{options.folder}: is outdated ({entry.outdated}): nothing to replay.")
    if options.record and options.seeds is not None and options.seeds < len(entry.runs):
        raise PeerWattError("--record needs all seeds: leave out --seeds.")
    strangers = foreign(record)
    if strangers and not options.run_code:
        raise PeerWattError(
            f"{options.folder}: the replay would run code of strangers: {', '.join(strangers)}; "
            "look at it, install it and say --run-code."
        )
    for stranger in strangers:
        print(f"runs code of a stranger: {stranger}")
    notes = version_notes(record)
    for note in notes:
        print(f"peerwatt: warning: {note}.", file=sys.stderr)
    replays = []
    for one in replay(entry, options.seeds):
        replays.append(one)
        state = "differs" if one.failure else "within tolerance" if one.differences else "equal"
        told, played = ("undefined" if w is None else f"{w:.6f}" for w in one.welfare)
        print(f"seed {one.seed}: {state}; welfare recorded {told}, replayed {played}", flush=True)
    failed = [one for one in replays if one.failure is not None]
    if failed:
        verb = "differs" if len(failed) == 1 else "differ"
        print(f"NOT reproduced: {len(failed)} of {_seeds(len(replays))} {verb}")
        for one in failed:
            print(f"  {one.failure}")
            others = [d for d in one.differences if str(d) not in str(one.failure)]
            for item in others[:SHOWN_DIFFERENCES]:
                print(f"    also {item}")
            if len(one.differences) > SHOWN_DIFFERENCES:
                print(f"    {len(one.differences)} values of seed {one.seed} differ in all")
        sys.exit(1)
    if biased := bias(replays):
        print(f"NOT reproduced: {biased}")
        sys.exit(1)
    differences = [item for one in replays for item in one.differences]
    exact = not differences
    largest = max((item.relative for item in differences), default=0.0)
    verdict = "exactly" if exact else "within tolerance, NOT exactly"
    print(f"reproduced {verdict}: {len(replays)} of {_seeds(len(entry.runs))}")
    if not exact:
        print(f"  largest difference {largest:.2g}: {max(differences, key=lambda d: d.relative)}")
        print("  tolerated only because the record claims, unchecked, to be from elsewhere:")
        for clause in dict.fromkeys(c for one in replays for c in one.elsewhere):
            print(f"    {clause}")
    if options.record:
        line = Verified(
            entry_id=record.entry_id,
            verdict="exact" if exact else "within tolerance",
            largest_difference=largest,
            peerwatt=version("peerwatt"),
            platform=environment().platform,
            date=today(),
        )
        append(options.folder.absolute().parents[ENTRY_LEVEL - 1], line)
        print("told the ledger")


def _seeds(number: int) -> str:
    return f"{number} seed" if number == 1 else f"{number} seeds"


def _remove(options: RemoveOptions) -> None:
    from peerwatt.submissions.collection import remove

    folder = remove(options.results, options.entry_id, options.reason)
    print(f"removed {folder}; the ledger tells why")
