"""The report as Markdown, with its pictures as files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from peerwatt_leaderboard.report.content import METHOD, Chapter, Report
from peerwatt_leaderboard.report.grids import Cell, Grid

FIGURES = "figures"
"""Folder of the pictures."""


def markdown(report: Report) -> str:
    """Return the text; pictures are named as `figure_file` does."""
    lines = ["# Report of PeerWatt", "", _safe(report.facts), ""]
    lines += [f"- {_safe(sentence)}" for sentence in METHOD] + [""]
    for chapter in report.chapters:
        lines += _chapter(chapter)
    lines += ["## What is missing", ""]
    if not report.absent:
        lines += ["Nothing: no run failed, and all entries of a task have the same seeds.", ""]
    for heading, sentences in report.absent:
        lines += [f"**{heading}**", "", *(f"- {_safe(sentence)}" for sentence in sentences), ""]
    return "\n".join(lines)


def figure_file(chapter: Chapter, plot: str) -> str:
    """Return the path of a picture, seen from the Markdown file."""
    return f"{FIGURES}/{chapter.identifier}-{plot}.svg"


def _chapter(chapter: Chapter) -> Iterator[str]:
    yield from (f"## {_safe(chapter.title)}", "", _safe(chapter.facts), "")
    yield from _grid(chapter.table)
    if chapter.variants.rows:
        yield from _grid(chapter.variants)
    for sentence in chapter.left_out:
        yield from (f"*{_safe(sentence)}*", "")
    for figure in chapter.figures:
        yield from (f"### {_safe(figure.title)}", "", _safe(figure.caption), "")
        for plot in figure.plots:
            alternative = f"{figure.title}: {plot.title}" if len(figure.plots) > 1 else plot.title
            yield from (f"![{_safe(alternative)}]({figure_file(chapter, plot.key)})", "")
        if figure.grid.rows:
            yield from _grid(figure.grid)


def _grid(grid: Grid) -> Iterator[str]:
    names = [title.startswith("Entry") for title in grid.head]
    yield f"| {' | '.join(map(_safe, grid.head))} |"
    yield f"|{'|'.join(':--' if name else '--:' for name in names)}|"
    for row in grid.rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield from ("", f"*{_safe(grid.caption)}.*", "")


def _cell(cell: Cell) -> str:
    return _safe(f"{cell.text} {cell.more}".strip())


def _safe(text: str) -> str:
    """Escape what Markdown or HTML would take for markup: some text is a stranger's."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*{}\[\]|~#!])", r"\\\1", text)
    # Within a word an underscore is itself; addresses become no links.
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\_", text)
    return text.replace("://", ":&#47;/").replace("www.", "www&#46;").replace("@", "&#64;")
