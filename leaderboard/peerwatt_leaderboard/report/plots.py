"""The plots of a report that the leaderboard does not have: intervals, profiles and the matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

import numpy as np

from peerwatt.evaluation.statistics import Interval, Profile
from peerwatt.runs.summary import WELFARE, Row
from peerwatt_leaderboard.charts import FLOOR, axes, interval_text, is_grid_only, style_of
from peerwatt_leaderboard.drawing import (
    HEIGHT,
    WIDTH,
    Axis,
    Box,
    Style,
    add_line,
    add_marker,
    add_text,
    new_chart,
    number,
    shorten,
)

Styles = Mapping[str, Style]
ROW = 24.0
"""Height of an entry's line where entries lie below each other."""


def intervals(rows: Sequence[Row], styles: Styles) -> str:
    """Draw the welfare of each entry with its interval, one below the other."""
    shown = [(row, interval) for row in rows if (interval := row.interval(WELFARE)) is not None]
    height = 62.0 + ROW * max(len(shown), 1)
    svg = new_chart("Welfare of each entry, with intervals", height=round(height))
    frame = Box(146.0, 14.0, 322.0, height - 44.0)
    values = [v for _, interval in shown for v in interval if math.isfinite(v)]
    low = min(max(min(values, default=0.0), FLOOR), 0.0)
    x_axis = Axis(low - 0.03, 1.03, frame.left, frame.right)
    lines = Axis(0.0, 1.0, frame.bottom, frame.top, least=math.inf)  # of entries, not of numbers
    axes(svg, x_axis, lines, frame, "Welfare →", "", "number")
    for value in (0.0, 1.0):
        add_line(svg, x_axis(value), frame.top, x_axis(value), frame.bottom, "fixed")
    for index, (row, interval) in enumerate(shown):
        style, y = style_of(row, styles), frame.top + ROW * (index + 0.5)
        group = ET.SubElement(svg, "g", {"class": f"c{style.colour}"})
        told = interval_text(interval, WELFARE)
        ET.SubElement(group, "title").text = f"{row.entry.label}: welfare {told}"
        add_text(group, frame.left - 10.0, y + 4.0, shorten(row.entry.label, 22), "label", "end")
        if math.isfinite(interval.low) and interval.high >= FLOOR:
            bounds = (x_axis(max(interval.low, FLOOR)), x_axis(interval.high))
            add_line(group, bounds[0], y, bounds[1], y, "whisker")
        add_marker(group, x_axis(max(interval.estimate, FLOOR)), y, style)
        add_text(group, frame.right + 10.0, y + 4.0, told, "figure")
    return ET.tostring(svg, encoding="unicode")


def profiles(rows: Sequence[Row], found: Mapping[str, Profile], styles: Styles) -> str | None:
    """Draw the share of runs above each welfare; nothing if there is no entry to draw.

    Grid-only, whose every run scores 0, is left out.
    """
    shown = [row for row in rows if row.entry.label in found and not is_grid_only(row)]
    if not shown:
        return None
    height = HEIGHT + 20.0 * math.ceil(len(shown) / 2)
    svg = new_chart("Performance profiles: share of runs above each welfare", height=round(height))
    frame = Box(40.0, 30.0, WIDTH - 14.0, HEIGHT - 44.0)
    thresholds = found[shown[0].entry.label].thresholds
    # All of the scale, and as much of what is below grid-only as some run needs.
    lowest = min(float(thresholds[np.argmax(found[r.entry.label].share < 1.0)]) for r in shown)
    used = thresholds >= min(lowest, 0.0) - 1e-9
    x_axis = Axis(float(thresholds[used][0]), 1.0, frame.left, frame.right)
    y_axis = Axis(-0.02, 1.02, frame.bottom, frame.top, least=0.0, most=1.0)
    axes(svg, x_axis, y_axis, frame, "Welfare τ →", "↑ Share of runs with welfare > τ", "number")
    for row in reversed(shown):
        style, profile = style_of(row, styles), found[row.entry.label]
        look = f"series profile c{style.colour} {style.shape}"
        group = ET.SubElement(svg, "g", {"class": look})
        ET.SubElement(group, "title").text = row.entry.label
        places = [x_axis(float(t)) for t in thresholds[used]]
        low, high = profile.low[used], profile.high[used]
        if np.isfinite(low).all() and (low < high).any():
            outline = _stairs(places, [y_axis(float(v)) for v in high])
            outline += _stairs(places, [y_axis(float(v)) for v in low])[::-1]
            ET.SubElement(group, "polygon", {"points": _path(outline), "class": "band"})
        line = _stairs(places, [y_axis(float(v)) for v in profile.share[used]])
        ET.SubElement(group, "polyline", {"points": _path(line), "class": "curve"})
    _legend(svg, shown, styles, frame)
    return ET.tostring(svg, encoding="unicode")


def _stairs(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """Return the corners of a function that keeps each value up to the next place."""
    path = [(xs[0], ys[0])]
    for x, y in zip(xs[1:], ys[1:], strict=True):
        if y != path[-1][1]:
            path += [(x, path[-1][1]), (x, y)]
    return [*path, (xs[-1], ys[-1])]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)


def _legend(svg: ET.Element, rows: Sequence[Row], styles: Styles, frame: Box) -> None:
    """Name the lines below the picture, in two columns."""
    for index, row in enumerate(rows):
        style = style_of(row, styles)
        x = frame.left + (index % 2) * (frame.right - frame.left) / 2
        y = HEIGHT + 12.0 + 20.0 * (index // 2)
        group = ET.SubElement(svg, "g", {"class": f"series c{style.colour} {style.shape}"})
        path = _path([(x, y), (x + 26.0, y)])
        ET.SubElement(group, "polyline", {"points": path, "class": "curve"})
        add_marker(group, x + 13.0, y, style)
        add_text(group, x + 33.0, y + 4.0, shorten(row.entry.label), "label")


def matrix(
    rows: Sequence[Row], found: Mapping[tuple[str, str], Interval], styles: Styles
) -> str | None:
    """Draw the probability that a run of the row has more welfare than one of the column."""
    compared = {label for pair in found for label in pair}
    shown = [row for row in rows if row.entry.label in compared]
    if not shown:
        return None
    left, top = 178.0, 30.0
    size = min((WIDTH - left - 6.0) / len(shown), 46.0)
    depth = min(size, 34.0) if len(shown) < 10 else size
    svg = new_chart(
        "Probability that a run of the row has more welfare than one of the column",
        height=round(top + depth * len(shown) + 10.0),
    )
    for index, row in enumerate(shown):
        style, y = style_of(row, styles), top + depth * index
        group = ET.SubElement(svg, "g", {"class": f"c{style.colour}"})
        name = f"{shorten(row.entry.label, 19)} {index + 1}"
        add_text(group, left - 9.0, y + depth / 2 + 4.0, name, "label", "end")
        middle = left + size * (index + 0.5)
        add_text(svg, middle, top - 8.0, f"{index + 1}", "tick", "middle")
        for column, other in enumerate(shown):
            x = left + size * column
            if column == index:
                add_text(svg, x + size / 2, y + depth / 2 + 4.0, "·", "tick", "middle")
                continue
            chance = found[row.entry.label, other.entry.label]
            _cell(svg, (row.entry.label, other.entry.label), chance, Box(x, y, x + size, y + depth))
    return ET.tostring(svg, encoding="unicode")


def _cell(svg: ET.Element, pair: tuple[str, str], chance: Interval, box: Box) -> None:
    """Fill a cell of the matrix: the more the probability differs from a half, the stronger."""
    group = ET.SubElement(svg, "g")
    told = probability_text(chance)
    ET.SubElement(group, "title").text = f"{pair[0]} over {pair[1]}: {told}"
    ET.SubElement(
        group,
        "rect",
        {
            "x": number(box.left + 1.0),
            "y": number(box.top + 1.0),
            "width": number(box.right - box.left - 2.0),
            "height": number(box.bottom - box.top - 2.0),
            "class": "win" if chance.estimate >= 0.5 else "lose",
            "fill-opacity": f"{0.08 + 0.9 * abs(chance.estimate - 0.5):.2f}",
        },
    )
    if box.right - box.left >= 25.0:
        apart = chance.low > 0.5 or chance.high < 0.5
        middle, height = (box.left + box.right) / 2, (box.top + box.bottom) / 2 + 4.0
        style = "chance apart" if apart else "chance"
        add_text(group, middle, height, f"{chance.estimate:.2f}", style, "middle")


def probability_text(chance: Interval) -> str:
    """Write a probability with its interval."""
    text = f"{chance.estimate:.2f}"
    if math.isfinite(chance.low) and chance.low < chance.high:
        text += f" [{chance.low:.2f}, {chance.high:.2f}]"
    return text
