"""The benchmark of one critic: carry out what is still to be done, and write the record."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from peerwatt.criticbench import measures, reachable
from peerwatt.criticbench.journal import Journal, total
from peerwatt.criticbench.operations import operations
from peerwatt.criticbench.phases import (
    BASE,
    BASES,
    TIMING,
    TWIN,
    Progress,
    Workplace,
    attacks,
    carry_out,
    lines_of,
    paraphrased,
    phases,
)
from peerwatt.criticbench.record import (
    FOLDER,
    CriticRecord,
    ReachableField,
    Robustness,
    Row,
    Scores,
    Status,
    Variant,
    bench_hash,
    file_name,
    read_critic_record,
)
from peerwatt.criticbench.subject import Examined
from peerwatt.criticbench.suite import Suite
from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.files import write_whole
from peerwatt.runs.provenance import environment

MAX_REPEATS = 50
JOURNAL = "journal.jsonl"


class Bench:
    """The benchmark of one critic on one suite, kept in `results`/critics."""

    def __init__(
        self,
        subject: Examined,
        suite: Suite,
        results: Path,
        *,
        repeats: int = 5,
        seed: int = 0,
        again: bool = False,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            subject: the critic.
            suite: the slots.
            results: folder of all results; answers that were paid for are shared with its runs.
            repeats: independent answers to the same question.
            seed: of the critic's own draws.
            again: do a finished benchmark again. Answers in the cache are not paid for again.

        Raises:
            PeerWattError: an argument is out of range.
        """
        if not 1 <= repeats <= MAX_REPEATS:
            raise PeerWattError(f"--repeats {repeats} must lie in 1..{MAX_REPEATS}.")
        self.subject = subject
        self.suite = suite
        self.repeats = repeats
        self.seed = seed
        self.again = again
        self.digest = bench_hash(suite.record, subject.record, repeats, seed)
        name = file_name(subject.record.name, self.digest)
        self.file = results / FOLDER / name
        self._store = results
        self._folder = self.file.with_suffix("")
        self._phases = phases(subject, suite, repeats)

    @property
    def finished(self) -> bool:
        """Whether there is a record, and it is not to be made again."""
        return self.file.exists() and not self.again

    @property
    def size(self) -> int:
        """How many slots are scored in all phases together."""
        return sum(len(phase.slots) * (1 + (phase.name == TIMING)) for phase in self._phases)

    def run(self, progress: Progress = lambda phase, slots: None) -> CriticRecord:
        """Return the record, which is written to `file`; phases that are done are not repeated.

        Raises:
            PeerWattError: the critic fails or may not ask any more; what is done is kept.
        """
        if self.finished:
            return read_critic_record(self.file)
        place = Workplace(self._folder, self._store, self.digest, self.seed, self.again)
        journal = Journal(self._folder / JOURNAL, again=self.again)
        try:
            for phase in self._phases:
                if journal.done(phase.name) is None:
                    carry_out(phase, journal, place, progress)
                else:
                    progress(phase.name, len(phase.slots) * (1 + (phase.name == TIMING)))
            record = self._record(journal)
        finally:
            journal.close()
        write_record(self.file, record)
        return record

    def _record(self, journal: Journal) -> CriticRecord:
        rows = self._rows(journal)
        subject = self.subject
        estimates = measures.measured(rows, self.repeats)
        return CriticRecord(
            suite=self.suite.record,
            critic=subject.record,
            label=subject.label,
            repeats=self.repeats,
            seed=self.seed,
            bench_hash=self.digest,
            validity=estimates.validity,
            reliability=estimates.reliability,
            invariance={
                name: self._variant(name, estimates.variants.get(name), journal)
                for name in ("order", "units", "paraphrase", "batch")
            },
            calibration=estimates.calibration,
            robustness=self._robustness(estimates.injection, journal),
            operations=operations([phase.name for phase in self._phases], journal, self._folder),
            rows=rows,
            environment=environment(),
            command=self._command(),
            notes=self._notes(journal),
            created_utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    def _command(self) -> str:
        import shlex

        words = ["peerwatt", "critics", "bench", "--critic", self.subject.text]
        words += ["--suite", self.suite.name, "--repeats", str(self.repeats)]
        return shlex.join(words + (["--seed", str(self.seed)] if self.seed else []))

    def _scores(self, journal: Journal, name: str) -> dict[int, Scores]:
        """Return row -> scores of a finished phase; none of one that was left out."""
        line = journal.done(name)
        phase = next((phase for phase in self._phases if phase.name == name), None)
        if line is None or phase is None:
            return {}
        return dict(zip(phase.rows, map(tuple, line["scores"]), strict=True))

    def _rows(self, journal: Journal) -> list[Row]:
        base = {row: x for name in BASES for row, x in self._scores(journal, name).items()}
        repeats = [self._scores(journal, f"repeat-{n}") for n in range(1, self.repeats)]
        variants = {name: self._scores(journal, name) for name in measures.VARIANTS}
        notes = {
            payload.name: self._scores(journal, f"note-{payload.name}")
            for payload in measures.PAYLOADS
        }
        rows = []
        for index, (place, truth) in enumerate(
            zip(self.suite.places, self.suite.truth, strict=True)
        ):
            rows.append(
                Row(
                    part=place.part,
                    cluster=place.cluster,
                    step=place.step,
                    truth=_scores_of(truth),
                    score=base[index],
                    repeats=tuple(found[index] for found in repeats if index in found),
                    variants={n: found[index] for n, found in variants.items() if index in found},
                    notes={n: found[index] for n, found in notes.items() if index in found},
                )
            )
        return rows

    def _variant(self, name: str, found: measures.Change | None, journal: Journal) -> Variant:
        critic = self.subject.critic
        status: Status = "measured"
        reason = ""
        if name == "paraphrase" and paraphrased(critic) is None:
            status, reason = "not-applicable", "it has no prompt, or a prompt without a paraphrase"
        elif name == "batch" and found is None:
            status, reason = "by-construction", "it is asked about one slot at a time"
        elif name == "units" and self._same_questions("units", BASE, journal):
            status, reason = "by-construction", "what it is asked holds no units"
        if found is None:
            return Variant(status=status, reason=reason)
        return Variant(
            status=status,
            reason=reason,
            slots=found.slots,
            change=found.change,
            largest=found.largest,
            abstained_once=found.once,
        )

    def _same_questions(self, phase: str, other: str, journal: Journal) -> bool | None:
        """Return whether `phase` put no question that `other` did not; None if none are told."""
        here, there = (
            {
                (str(line.get("path")), str(line.get("question")))
                for line in lines_of(self._folder, name, journal.attempts(name), "answer")
            }
            for name in (phase, other)
        )
        return here <= there if here and there else None

    def _robustness(self, found: measures.Injection, journal: Journal) -> Robustness:
        notes: Status = "measured" if self.subject.opens else "by-construction"
        return Robustness(
            reachable=[self._reachable(field, journal) for field in reachable.FIELDS],
            notes=notes,
            reason="" if self.subject.opens else "it is given numbers alone",
            payloads=found.payloads if self.subject.opens else [],
            lift=found.lift,
            hijacked=found.hijacked,
            drift=found.drift,
        )

    def _reachable(self, field: str, journal: Journal) -> ReachableField:
        compared = changed = 0
        sames: list[bool | None] = []
        harmless = measures.array((journal.done(TWIN) or {})["scores"])
        for phase, payloads in attacks(field).items():
            scores = measures.array((journal.done(phase) or {})["scores"])
            twins = harmless[: len(scores)]
            compared += int((np.isfinite(scores) | np.isfinite(twins)).sum())
            changed += int((~np.isclose(scores, twins, rtol=0, atol=1e-9, equal_nan=True)).sum())
            markets = reachable.markets(field, payloads), reachable.twins(len(payloads))
            same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*markets, strict=True))
            opens = same and self.subject.opens
            sames.append(self._same_questions(phase, TWIN, journal) if opens else same)
        return ReachableField(
            field=field,
            payloads=len(reachable.HOSTILE),
            scores=compared,
            changed=changed,
            same_input=False if False in sames else None if None in sames else True,
        )

    def _notes(self, journal: Journal) -> list[str]:
        notes = []
        usage = [journal.usage(phase.name) for phase in self._phases]
        if (whole := total([part for part in usage if part is not None])) is not None:
            notes += whole.told
            if whole.skipped:
                notes.append(
                    f"critic: skipped {whole.skipped:,} of {whole.slots:,} slots on purpose; leave "
                    "its options `every` and `share` out to have all judged"
                )
        refusals = [journal.done(phase.name) or {} for phase in self._phases]
        if count := sum(line.get("refusals", 0) for line in refusals):
            first = next(line["refused"][0] for line in refusals if line.get("refusals"))
            notes.append(f"critic: refused {count:,} slots, the first with {first}")
        return [shown(note, 900) for note in notes]


def _scores_of(values: Sequence[float]) -> Scores:
    ftg, fbs, fpp, ftb = (None if np.isnan(x) else float(x) for x in values)
    return ftg, fbs, fpp, ftb


def write_record(file: Path, record: CriticRecord) -> None:
    """Write `record` to `file`, which is there wholly or not at all.

    Raises:
        PeerWattError: the disk refuses.
    """
    try:
        write_whole(file, (record.model_dump_json() + "\n").encode())
    except OSError as error:
        raise PeerWattError(
            f"cannot write {file}: {error.strerror}; name another folder with --results."
        ) from None
