"""What a comparison finds, one finding per case, and the overall verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from peerwatt.evaluation.verdict import Decision, Outcome

Layer = Literal["golden", "scripted", "runs", "learners"]
EXIT_CODES: dict[Outcome, int] = {"no worse": 0, "regression": 1, "undecided": 3}
"""2 is bad input, as for every command."""
_EXACT = {
    "golden": "the golden file is the same",
    "scripted": "scripted traders play the same",
    "golden scripted": "what is deterministic is the same",
}


@dataclass(frozen=True)
class Finding:
    """The outcome of one case."""

    layer: Layer
    subject: str
    """The entry, with its task, or the case of a golden file."""
    outcome: Outcome
    text: str
    """Why, as a sentence."""
    metric: str | None = None
    demanded: bool = True
    """Whether it must be no worse for the whole to be; a regression always counts."""
    decision: Decision | None = None
    margin: float | None = None

    @property
    def beyond_margin(self) -> bool:
        """Whether it is undecided and demanded, and the mean itself is a drop beyond the margin."""
        return (
            self.outcome == "undecided"
            and self.demanded
            and self.decision is not None
            and self.margin is not None
            and self.decision.estimate < -self.margin
        )


@dataclass(frozen=True)
class Report:
    """All findings of one call."""

    base: str
    new: str
    alpha: float
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...] = ()
    looks: tuple[int, ...] = field(default=())
    """Numbers of seeds at which a sequential plan looks; empty without one."""

    @property
    def outcome(self) -> Outcome:
        """A regression anywhere; else undecided if anything demanded is; else no worse."""
        if any(finding.outcome == "regression" for finding in self.findings):
            return "regression"
        if any(finding.outcome == "undecided" and finding.demanded for finding in self.findings):
            return "undecided"
        return "no worse"

    @property
    def beyond_margin(self) -> bool:
        """Whether it is undecided of a metric whose mean dropped beyond the margin.

        So it is where some runs of NEW collapse: their spread leaves open what their mean tells.
        """
        return self.outcome == "undecided" and any(f.beyond_margin for f in self.findings)

    @property
    def exit_code(self) -> int:
        """The code that the command ends with."""
        return EXIT_CODES[self.outcome]

    @property
    def reason(self) -> str:
        """One sentence: what decides the overall verdict."""
        if self.outcome == "regression":
            return _first([f for f in self.findings if f.outcome == "regression"])
        open_ones = [f for f in self.findings if f.outcome == "undecided"]
        if self.outcome == "undecided":
            demanded = [finding for finding in open_ones if finding.demanded]
            return _first(sorted(demanded, key=lambda finding: not finding.beyond_margin))
        held = [f for f in self.findings if f.layer == "learners" and f.demanded]
        exact = {f.layer for f in self.findings if f.layer in ("golden", "scripted")}
        parts = [_EXACT[" ".join(sorted(exact))]] if exact else []
        if any(finding.metric for finding in held):
            parts.append("what is demanded of learners is shown")
        elif held:
            parts.append("learners play the same, bit for bit")
        if open_ones:
            parts.append(f"{len(open_ones)} further metrics are undecided, which is allowed")
        text = "; ".join(parts) or "nothing differs"
        return f"{text[0].upper()}{text[1:]}."


def _first(findings: Sequence[Finding]) -> str:
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    first = findings[0]
    return f"{first.subject}: {first.text}{more}"
