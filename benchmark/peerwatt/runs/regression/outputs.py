"""A report as Markdown for a pull request, as JUnit XML and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import xml.etree.ElementTree as ElementTree
from typing import Any

from peerwatt.errors import shown
from peerwatt.runs.regression.findings import EXIT_CODES, Finding, Layer, Report

MARKS = {"regression": "❌", "no worse": "✅", "undecided": "❔"}
TITLES: dict[Layer, str] = {
    "golden": "Golden files",
    "scripted": "Scripted traders",
    "runs": "Runs",
    "learners": "Learners",
}
MEANING = (
    "A *regression* of a learner is a drop that is significant over the seeds (sign-flip test of "
    "paired differences, Holm's correction, chance of any false alarm at most {alpha:g}) and not "
    "shown to be within the margin. *No worse* means that a drop by the margin or more is "
    "excluded, with a chance of error of {alpha:g} if the differences spread symmetrically about "
    "their mean, and more if a few runs of NEW are far worse than the rest. *Undecided* is "
    "neither. What is deterministic must be the same."
)


def to_markdown(report: Report) -> str:
    """Return a comment for a pull request."""
    lines = [
        f"## {MARKS[report.outcome]} PeerWatt: {report.outcome}",
        "",
        _escaped(report.reason),
        "",
        "| | case | metric | difference | bounds | margin | seeds | verdict |",
        "|---|---|---|---:|---|---:|---:|---|",
    ]
    for finding in report.findings:
        cells = [
            MARKS[finding.outcome],
            _escaped(finding.subject),
            finding.metric or TITLES[finding.layer].lower(),
            *_figures(finding),
            finding.outcome + ("" if finding.demanded or _decided(finding) else " (allowed)"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    open_ones = [finding for finding in report.findings if finding.outcome != "no worse"]
    if open_ones:
        lines += ["", "<details open><summary>Why</summary>", ""]
        lines += [f"- **{_escaped(f.subject)}**: {_escaped(f.text)}" for f in open_ones]
        lines += ["", "</details>"]
    for warning in report.warnings:
        lines += ["", f"⚠️ {_escaped(warning)}"]
    lines += ["", f"<sub>{MEANING.format(alpha=report.alpha)}{_looks(report)}</sub>", ""]
    return "\n".join(lines)


def _decided(finding: Finding) -> bool:
    return finding.outcome != "undecided"


def _looks(report: Report) -> str:
    if not report.looks:
        return ""
    sizes = ", ".join(map(str, report.looks))
    return f" Looks planned at {sizes} seeds share that chance."


def _figures(finding: Finding) -> list[str]:
    decision = finding.decision
    if decision is None or finding.margin is None:
        return ["", "", "", ""]
    bounds = f"[{_number(decision.low)}, {_number(decision.high)}]"
    return [_number(decision.estimate), bounds, f"{finding.margin:g}", str(decision.pairs)]


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "−∞" if value < 0 else "∞"
    return f"{value:+.4f}".replace("-", "−")


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in a cell too: some of it quotes a stranger."""
    line = shown(text, 2_000).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return "".join(f"\\{c}" if c in "*_[]#" else c for c in line)


def to_junit(report: Report) -> str:
    """Return JUnit XML: a regression is a failure, what is undecided is skipped.

    JUnit knows no third verdict; a job should ask for the exit code, or the JSON.
    """
    findings = report.findings
    suite = ElementTree.Element(
        "testsuite",
        name="peerwatt regress",
        tests=str(len(findings)),
        failures=str(sum(finding.outcome == "regression" for finding in findings)),
        errors="0",
        skipped=str(sum(finding.outcome == "undecided" for finding in findings)),
    )
    for finding in findings:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"peerwatt.{finding.layer}.{shown(finding.subject, 200)}",
            name=finding.metric or finding.layer,
        )
        text = shown(finding.text, 2_000)
        if finding.outcome == "regression":
            ElementTree.SubElement(case, "failure", message=text, type="regression").text = text
        elif finding.outcome == "undecided":
            ElementTree.SubElement(case, "skipped", message=text)
        else:
            ElementTree.SubElement(case, "system-out").text = text
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def to_json(report: Report) -> str:
    """Return everything; numbers that are not finite are null."""
    content = {
        "verdict": report.outcome,
        "exit_code": EXIT_CODES[report.outcome],
        "beyond_margin": report.beyond_margin,
        "reason": report.reason,
        "base": report.base,
        "new": report.new,
        "alpha": report.alpha,
        "looks": list(report.looks),
        "findings": [_finding(finding) for finding in report.findings],
        "warnings": list(report.warnings),
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finding(finding: Finding) -> dict[str, Any]:
    content: dict[str, Any] = {
        "layer": finding.layer,
        "subject": finding.subject,
        "metric": finding.metric,
        "verdict": finding.outcome,
        "demanded": finding.demanded,
        "reason": finding.text,
    }
    if finding.decision is not None:
        numbers = {
            name: value if math.isfinite(value) else None
            for name, value in dataclasses.asdict(finding.decision).items()
            if name != "outcome"
        }
        content |= {"margin": finding.margin, "beyond_margin": finding.beyond_margin, **numbers}
    return content
