"""The report as a folder: report.html, which needs nothing else, report.md, and its pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from peerwatt.runs.entries import Board
from peerwatt_leaderboard.folder import replaced_at_once
from peerwatt_leaderboard.report.content import METHOD, Report, report_of
from peerwatt_leaderboard.report.markdown import FIGURES, figure_file, markdown
from peerwatt_leaderboard.site import HERE, digest


def write_report(boards: Sequence[Board], out: Path, source: Path) -> Path:
    """Write the report on `boards`, read from `source`, into folder `out`; return the page.

    The same results give the same bytes. A folder that holds anything but a report is refused.

    Raises:
        PeerWattError: `out` is not a folder for a report, or cannot be written.
    """
    out = out.resolve()
    with replaced_at_once(out, source, "report") as staging:
        report = report_of(source, boards)
        style = _style()
        of_charts = _style_of_charts(style)
        (staging / "report.html").write_text(html(report, style), encoding="utf-8")
        (staging / "report.md").write_text(markdown(report), encoding="utf-8")
        (staging / FIGURES).mkdir()
        for chapter in report.chapters:
            for figure in chapter.figures:
                for plot in figure.plots:
                    file = staging / figure_file(chapter, plot.key)
                    file.write_text(standalone(plot.svg, of_charts), encoding="utf-8")
    return out / "report.html"


def html(report: Report, style: str) -> str:
    """Return the page: no script, no request; the content policy allows its style by its hash."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup
    return environment.get_template("report.html").render(
        report=report, method=METHOD, style=Markup(style), style_hash=digest(style)
    )


def standalone(svg: str, style: str) -> str:
    """Return a picture with its style and a ground of its own, for use as a file."""
    found = re.match(r'<svg class="chart" viewBox="0 0 (\d+) (\d+)"', svg)
    assert found is not None  # `new_chart` begins all of them
    width, height = map(int, found.groups())
    head, body = svg[: svg.index(">") + 1], svg[svg.index(">") + 1 :]
    head = head.replace(
        'class="chart" viewBox="0 0 ',
        f'xmlns="http://www.w3.org/2000/svg" class="chart" width="{width + 16}" '
        f'height="{height + 16}" viewBox="-8 -8 ',
    ).replace(f"-8 -8 {width} {height}", f"-8 -8 {width + 16} {height + 16}")
    ground = f'<rect x="-8" y="-8" width="{width + 16}" height="{height + 16}" class="ground"/>'
    return f"{head}<style>{style}</style>{ground}{body}\n"


def _style() -> str:
    """Return the style of the leaderboard's page and what the report adds to it."""
    assets = HERE / "assets"
    return "".join(
        (assets / name).read_text(encoding="utf-8") for name in ("page.css", "report.css")
    )


def _style_of_charts(style: str) -> str:
    """Return the colours, and the rules of `style` that begin a line and are about charts."""
    palette, rules = style.split("* {", 1)
    chosen = (".c0", ".c4", ".chart", ".marker", "svg.chart")
    return palette + "".join(
        line for line in rules.splitlines(keepends=True) if line.startswith(chosen)
    )
