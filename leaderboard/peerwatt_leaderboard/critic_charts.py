"""The charts of the critics: what they say against what is true, what moves them, what they take.

Critics that ask a model are coloured; those that ask none are grey and hollow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.etree import ElementTree as ET

from peerwatt.criticbench.record import CalibrationBin, Estimate
from peerwatt_leaderboard.charts import COLOURS, GREY, SHAPES, axes
from peerwatt_leaderboard.drawing import (
    CHARACTER,
    WIDTH,
    Axis,
    Box,
    Style,
    add_line,
    add_marker,
    add_text,
    new_chart,
    number,
)

PANEL, SERIES_WIDTH = 220, 330
"""Width and height of the picture of one critic, and width of that of one series."""
MOST_DOTS = 600
"""Slots shown of one critic and score; of more, evenly chosen ones stand for all."""
ROW = 27.0
"""Height of a critic's row where they lie below each other."""
DECADES = (
    (1e-6, "1 µs"), (1e-5, "10 µs"), (1e-4, "0.1 ms"), (1e-3, "1 ms"), (1e-2, "10 ms"),
    (0.1, "0.1 s"), (1.0, "1 s"), (10.0, "10 s"), (100.0, "100 s"), (1000.0, "1000 s"),
)  # fmt: skip
"""Ticks of the scale of latencies."""


@dataclass(frozen=True)
class Look:
    """How one critic is named, addressed and drawn."""

    label: str
    identifier: str
    style: Style


@dataclass(frozen=True)
class Bar:
    """One critic among bars that lie below each other."""

    look: Look
    value: Estimate | None
    """None where there is nothing to draw."""
    told: str
    """What is written instead of a bar, or read out of it."""
    marks: tuple[float, ...] = ()
    """Single values that the bar is the mean of."""
    other: Estimate | None = None
    """A second value, drawn hollow."""


def short(label: str, most: int = 24) -> str:
    """Cut a long name in its middle, for both ends tell critics apart."""
    if len(label) <= most:
        return label
    return f"{label[: most // 2 - 1]}…{label[-(most // 2) :]}"


def styles_of(asking: Mapping[str, bool]) -> dict[str, Style]:
    """Give each critic its look by its label, the same in all pictures of the page."""
    models = sorted(label for label, asks in asking.items() if asks)
    plain = sorted(label for label, asks in asking.items() if not asks)
    styles = {
        label: Style(index % COLOURS, SHAPES[index % len(SHAPES)], hollow=False)
        for index, label in enumerate(models)
    }
    for index, label in enumerate(plain):
        styles[label] = Style(GREY, SHAPES[index % len(SHAPES)], hollow=True)
    return styles


def against_truth(
    look: Look, pairs: Sequence[tuple[float, float]], bins: Sequence[CalibrationBin], name: str
) -> str:
    """Draw one critic's score over the closed form of each slot, and its reliability curve.

    Args:
        look: the critic.
        pairs: (truth, score) of the slots that have both, in [0, 1].
        bins: scores of one tenth of the scale with the mean of what is true of them.
        name: title of the score.
    """
    svg = new_chart(f"{look.label}: {name} against its closed form", PANEL, PANEL)
    frame = Box(30.0, 8.0, PANEL - 8.0, PANEL - 34.0)
    x_axis = Axis(-0.02, 1.02, frame.left, frame.right, least=0.0, most=1.0)
    y_axis = Axis(-0.02, 1.02, frame.bottom, frame.top, least=0.0, most=1.0)
    axes(svg, x_axis, y_axis, frame, "", "", "number", about=2)
    add_text(svg, (frame.left + frame.right) / 2, PANEL - 4.0, "closed form →", "title", "middle")
    add_line(svg, x_axis(0.0), y_axis(0.0), x_axis(1.0), y_axis(1.0), "ideal")
    group = ET.SubElement(svg, "g", {"class": f"c{look.style.colour}"})
    if not pairs:
        middle = (frame.top + frame.bottom) / 2
        add_text(group, (frame.left + frame.right) / 2, middle, "no score", "muted", "middle")
        return ET.tostring(svg, encoding="unicode")
    step = max(1, math.ceil(len(pairs) / MOST_DOTS))
    places = dict.fromkeys((x_axis(truth), y_axis(score)) for truth, score in pairs[::step])
    dots = "".join(f"M{number(x)} {number(y)}h0" for x, y in places)
    ET.SubElement(group, "path", {"d": dots, "class": "dots"})
    known = [part for part in bins if part.truth.estimate is not None]
    for part in known:
        low, high = part.truth.low, part.truth.high
        if low is not None and high is not None:
            y = y_axis(part.score)
            add_line(group, x_axis(low), y, x_axis(high), y, "whisker")
    line = [(x_axis(p.truth.estimate or 0.0), y_axis(p.score)) for p in known]
    path = " ".join(f"{number(x)},{number(y)}" for x, y in line)
    if len(line) > 1:
        ET.SubElement(group, "polyline", {"points": path, "class": "curve"})
    for x, y in line:
        ET.SubElement(group, "circle", {"cx": number(x), "cy": number(y), "r": "3", "class": "dot"})
    return ET.tostring(svg, encoding="unicode")


def series(
    title: str,
    name: str,
    steps: Sequence[int],
    truth: Sequence[float | None],
    lines: Sequence[tuple[Look, Sequence[float | None]]],
) -> str:
    """Draw the scores of all critics along a controlled series; the closed form is dashed.

    Args:
        title: name of the series.
        name: title of the score.
        steps: places of the one thing that changes, rising.
        truth: the closed form at each place.
        lines: each critic with its score at each place; None where it gave none.
    """
    svg = new_chart(f"{name} along the series {title}", SERIES_WIDTH, PANEL)
    frame = Box(38.0, 26.0, SERIES_WIDTH - 14.0, PANEL - 38.0)
    x_axis = Axis(min(steps), max(steps), frame.left, frame.right)
    y_axis = Axis(-0.03, 1.03, frame.bottom, frame.top, least=0.0, most=1.0)
    axes(svg, x_axis, y_axis, frame, "Step →", f"↑ {name}", "number", about=4)
    for look, values in reversed(lines):
        attributes = {"class": f"series c{look.style.colour} {look.style.shape}"}
        group = ET.SubElement(svg, "g", attributes | {"data-entry": look.identifier})
        ET.SubElement(group, "title").text = look.label
        last = _polylines(group, steps, values, x_axis, y_axis, "curve")
        if last is not None:
            add_marker(group, *last, look.style)
    _polylines(svg, steps, truth, x_axis, y_axis, "truth")
    return ET.tostring(svg, encoding="unicode")


def _polylines(
    parent: ET.Element,
    steps: Sequence[int],
    values: Sequence[float | None],
    x_axis: Axis,
    y_axis: Axis,
    style: str,
) -> tuple[float, float] | None:
    """Draw a line with a gap wherever a value is missing; return the last point."""
    last = None
    pairs = zip(steps, values, strict=True)
    for known, run in groupby(pairs, key=lambda pair: pair[1] is not None):
        if not known:
            continue
        points = [(x_axis(step), y_axis(value)) for step, value in run if value is not None]
        last = points[-1]
        path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        # A line of one point is invisible but for its round end.
        path = path if len(points) > 1 else f"{path} {path}"
        ET.SubElement(parent, "polyline", {"points": path, "class": style})
    return last


def bars(title: str, x_title: str, rows: Sequence[Bar]) -> str:
    """Draw a bar from 0 for each critic, with its interval, single values and a second value."""
    height, frame = _rows_frame([bar.look.label for bar in rows], len(rows))
    svg = new_chart(title, WIDTH, height)
    values = [0.0]
    for bar in rows:
        for estimate in (bar.value, bar.other):
            if estimate is not None:
                values += [v for v in (estimate.estimate, estimate.low, estimate.high) if v]
        values += bar.marks
    low, high = min(values), max(values)
    room = max(high - low, 0.1) * 0.06
    x_axis = Axis(low - room if low < 0.0 else 0.0, max(high + room, 0.1), frame.left, frame.right)
    _row_grid(
        svg, frame, [(x_axis(tick), f"{tick:.2f}".replace("-", "−")) for tick in x_axis.ticks(4)]
    )
    add_line(svg, x_axis(0.0), frame.top, x_axis(0.0), frame.bottom, "fixed")
    add_text(svg, (frame.left + frame.right) / 2, height - 7.0, x_title, "title", "middle")
    for index, bar in enumerate(rows):
        y = frame.top + ROW * (index + 0.5)
        link = _row(svg, bar.look, bar.told, frame, y)
        if bar.value is None or bar.value.estimate is None:
            add_text(link, x_axis(0.0) + 8.0, y + 4.0, bar.told, "muted")
            continue
        add_line(link, x_axis(0.0), y, x_axis(bar.value.estimate), y, "amount")
        if bar.value.low is not None and bar.value.high is not None:
            add_line(link, x_axis(bar.value.low), y, x_axis(bar.value.high), y, "whisker")
        for mark in bar.marks:
            add_line(link, x_axis(mark), y - 7.0, x_axis(mark), y + 7.0, "single")
        if bar.other is not None and bar.other.estimate is not None:
            if bar.other.low is not None and bar.other.high is not None:
                add_line(link, x_axis(bar.other.low), y, x_axis(bar.other.high), y, "whisker")
            add_marker(
                link, x_axis(bar.other.estimate), y, Style(bar.look.style.colour, "diamond", True)
            )
    return ET.tostring(svg, encoding="unicode")


def latencies(rows: Sequence[tuple[Look, float | None, float | None, str]]) -> str:
    """Draw the median latency of each critic up to its 95th percentile, and write its cost.

    Args:
        rows: look, median and 95th percentile in seconds (None where unknown), and the cost.
    """
    height, frame = _rows_frame([look.label for look, *_ in rows], len(rows))
    cost_room = max(len(cost) for *_, cost in rows) * CHARACTER + 14.0
    frame = Box(frame.left, frame.top + 14.0, WIDTH - max(cost_room, 70.0), frame.bottom + 14.0)
    svg = new_chart("Latency and cost of the critics", WIDTH, height + 14)
    known = [v for _, *both, _ in rows for v in both if v is not None and v > 0.0]
    least, most = min(known, default=1e-3), max(known, default=1.0)
    low = max((value for value, _ in DECADES if value <= least), default=DECADES[0][0])
    high = min((value for value, _ in DECADES if value >= most), default=DECADES[-1][0])
    if low == high:
        high = low * 10.0
    x_axis = Axis(math.log10(low), math.log10(high), frame.left + 6.0, frame.right - 6.0)
    ticks = [(value, text) for value, text in DECADES if low <= value <= high]
    every = math.ceil(len(ticks) / 4)
    _row_grid(svg, frame, [(x_axis(math.log10(value)), text) for value, text in ticks[::every]])
    middle = (frame.left + frame.right) / 2
    add_text(svg, middle, height + 7.0, "Time per slot, p50 to p95 →", "title", "middle")
    add_text(svg, WIDTH - 2.0, 12.0, "$ per 1,000 calls", "title", "end")
    for index, (look, median, tail, cost) in enumerate(rows):
        y = frame.top + ROW * (index + 0.5)
        link = _row(svg, look, cost, frame, y)
        add_text(link, WIDTH - 2.0, y + 4.0, cost, "figure", "end")
        if median is None:
            add_text(link, frame.left + 8.0, y + 4.0, "not measured", "muted")
            continue
        x, end = (
            x_axis(math.log10(min(max(value, low), high))) for value in (median, tail or median)
        )
        add_line(link, x, y, end, y, "amount")
        add_marker(link, x, y, look.style)
    return ET.tostring(svg, encoding="unicode")


def _rows_frame(labels: Sequence[str], rows: int) -> tuple[int, Box]:
    """Return the height of a picture of rows, and the part of it right of their names."""
    left = min(max(len(short(label)) for label in labels) * CHARACTER + 10.0, 184.0)
    bottom = 8.0 + ROW * rows
    return round(bottom + 44.0), Box(left, 8.0, WIDTH - 14.0, bottom)


def _row_grid(svg: ET.Element, frame: Box, ticks: Sequence[tuple[float, str]]) -> None:
    """Draw the grid lines of a picture of rows with their labels."""
    group = ET.SubElement(svg, "g", {"class": "axes", "aria-hidden": "true"})
    for x, text in ticks:
        add_line(group, x, frame.top, x, frame.bottom, "grid")
        add_text(group, x, frame.bottom + 17.0, text, "tick", "middle")


def _row(svg: ET.Element, look: Look, told: str, frame: Box, y: float) -> ET.Element:
    """Begin the row of a critic with its name."""
    told = f"{look.label}: {told}"
    attributes = {
        "href": f"#{look.identifier}",
        "aria-label": told,
        "class": f"c{look.style.colour}",
    }
    link = ET.SubElement(svg, "a", attributes | {"data-entry": look.identifier})
    ET.SubElement(link, "title").text = told
    add_text(link, frame.left - 8.0, y + 4.0, short(look.label), "label", "end")
    return link
