"""Adding seeds until it is decided: the looks are planned beforehand and share the error rate.

With L looks each is tested at alpha / L (Bonferroni), so that all looks together raise a false
alarm with a chance of at most alpha. The plan and the seeds of each look are kept beside the
results of NEW, in `.regress/`: a later call goes on with that plan, lest every call be a first
look. A call without a plan counts as a look as well, and with other seeds as a further one. But the
first of these was tested at the whole of alpha, before it was known that others would follow, so
that with a look before the plan the chance is above alpha; only a plan from the start keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.regression.findings import Report
from peerwatt.runs.regression.golden import write_text
from peerwatt.runs.regression.learners import Settings
from peerwatt.runs.regression.pairing import Pair
from peerwatt.runs.regression.scripted import same_in

FOLDER = ".regress"
MOST_SEEDS = 1_000


class Record(BaseModel):
    """Which seeds of NEW were looked at, and at how many it is planned to look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float | None = None
    """Of the plan, if there is one."""
    margins: dict[str, float] = {}
    """Margin of each metric, of the plan."""
    looks: Annotated[tuple[int, ...], Field(max_length=20)] = ()
    """Number of seeds at each planned look; empty without a plan."""
    plain: dict[str, list[list[int]]] = {}
    """Key of a pair -> the seeds of each look without a plan."""
    seen: dict[str, list[list[int]]] = {}
    """Key of a pair -> the seeds of each planned look that was made."""
    verdicts: list[str] = []
    """What each call under the plan said."""


def plan_looks(seeds: int, most: int) -> tuple[int, ...]:
    """Return the looks: at `seeds`, then at twice as many, up to `most`."""
    looks = [seeds]
    while looks[-1] < most:
        looks.append(min(2 * looks[-1], most))
    return tuple(looks)


class Looks:
    """What was looked at in a folder NEW, and the file that keeps it."""

    def __init__(self, new: Path, settings: Settings) -> None:
        self.file = new / FOLDER / "looks.json"
        self.settings = settings
        self.record = self._read() if self.file.exists() else Record()

    def _read(self) -> Record:
        mend = f"remove {self.file} to begin a new comparison, with seeds that nobody has looked at"
        try:
            record = Record.model_validate_json(self.file.read_bytes())
        except (OSError, ValidationError) as error:
            raise PeerWattError(f"{self.file}: {shown(str(error), 200)}; {mend}.") from None
        wanted = _margins(self.settings)
        if record.looks and (record.alpha, record.margins) != (self.settings.alpha, wanted):
            raise PeerWattError(
                f"{self.file}: seeds were added by a plan with --alpha {record.alpha:g} and the "
                f"margins {_told(record.margins)}, and this call says {self.settings.alpha:g} and "
                f"{_told(wanted)}; say the same, or {mend}."
            )
        return record

    @property
    def planned(self) -> tuple[int, ...]:
        """Number of seeds at each planned look; empty without a plan."""
        return self.record.looks

    def begin(self, seeds: int, most: int) -> None:
        """Make the plan of a folder that has none."""
        if not self.planned:
            self._update(
                alpha=self.settings.alpha,
                margins=_margins(self.settings),
                looks=plan_looks(seeds, most),
            )

    def look(self, pairs: Sequence[Pair]) -> list[str]:
        """Remember the looks that the seeds of each pair now allow; return warnings.

        Raises:
            PeerWattError: the disk refuses to keep a planned look.
        """
        kind = "seen" if self.planned else "plain"
        record: dict[str, list[list[int]]] = getattr(self.record, kind)
        looked = dict(record)
        for pair in pairs:
            made = looked.get(pair.key, [])
            if self.planned:
                looked[pair.key] = self._planned(made, pair.seeds)
            elif pair.seeds not in made and not same_in(pair, pair.seeds):
                looked[pair.key] = [*made, pair.seeds]
        if looked != record:
            try:
                self._update(**{kind: looked})
            except PeerWattError as error:
                if self.planned:
                    raise
                return [f"this look is not counted by later calls: {error}"]
        return []

    def _planned(self, made: list[list[int]], seeds: list[int]) -> list[list[int]]:
        """Return the looks made, with those for which there are enough `seeds` now."""
        made = list(made)
        for size in self.planned[len(made) :]:
            before = made[-1] if made else []
            fresh = [seed for seed in seeds if seed not in before]
            if len(before) + len(fresh) < size or not set(before) <= set(seeds):
                break
            made.append([*before, *fresh[: size - len(before)]])
        return made

    def of(self, pair: Pair) -> list[list[int]]:
        """Return the seeds of each look at a pair, the last one last, of those still there.

        Under a plan there is none before the first planned look.
        """
        plain, seen = self.record.plain.get(pair.key, []), self.record.seen.get(pair.key, [])
        if self.planned:
            looks = [*plain, *seen] if seen and set(seen[-1]) <= set(pair.seeds) else []
        else:
            looks = [*(look for look in plain if look != pair.seeds), pair.seeds]
        return [look for look in looks if set(look) <= set(pair.seeds)]

    def count(self, pairs: Sequence[Pair]) -> int:
        """Return by how many looks the chance of a false alarm is shared."""
        plain = max((len(self.record.plain.get(pair.key, [])) for pair in pairs), default=0)
        return max(1, plain + len(self.planned))

    def asked(self, pair: Pair) -> list[int] | None:
        """Return the seeds that the plan has asked for so far; None without a plan."""
        made = self.record.seen.get(pair.key, [])
        return (made[-1] if made else []) if self.planned else None

    def known(self, pair: Pair) -> list[int] | None:
        """Return the seeds of all looks, those without a plan included; None without a plan."""
        asked, plain = self.asked(pair), self.record.plain.get(pair.key, [])
        return None if asked is None else [*asked, *(seed for look in plain for seed in look)]

    def next_size(self, pair: Pair) -> int | None:
        """Return the number of seeds of the next planned look; None if the last one was made."""
        made = len(self.record.seen.get(pair.key, []))
        return self.planned[made] if made < len(self.planned) else None

    def note(self, report: Report) -> None:
        """Remember what a call under the plan said."""
        if self.planned:
            self._update(verdicts=[*self.record.verdicts, report.outcome])

    def _update(self, **changes: Any) -> None:
        self.record = self.record.model_copy(update=changes)
        write_text(self.file, self.record.model_dump_json(indent=1) + "\n")


def _margins(settings: Settings) -> dict[str, float]:
    return {name: settings.margin_of(name) for name in settings.metrics}


def _told(margins: dict[str, float]) -> str:
    return ", ".join(f"{shown(name, 40)} {margin:g}" for name, margin in margins.items())
