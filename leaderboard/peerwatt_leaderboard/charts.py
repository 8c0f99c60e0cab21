"""The charts, drawn as SVG when the page is built, so that it is complete without JavaScript.

Learners have a colour per entry and a shape per critic; scripted traders are grey and
hollow, with a shape each. Colours come from the style sheet by class (`c0` … `c7`), which lets one
picture serve light and dark. Text is set by ElementTree, which escapes it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal
from xml.etree import ElementTree as ET

from peerwatt.evaluation.statistics import Interval
from peerwatt.runs.labels import short_count
from peerwatt.runs.summary import WELFARE, CurveBand, Measure, Row, written
from peerwatt_leaderboard.drawing import (
    CHARACTER,
    HEIGHT,
    LINE,
    WIDTH,
    Axis,
    Box,
    Point,
    Side,
    Style,
    add_line,
    add_marker,
    add_text,
    leader_of,
    new_chart,
    number,
    place_labels,
    shorten,
)

SHAPES = ("circle", "diamond", "square", "triangle", "star", "cross")
COLOURS = 7
GREY = 7
"""Colours of the learners, which come round if there are more of them, and of scripted traders."""
FLOOR = -1.0
"""Curves are cut off below: a learner that begins badly must not flatten all the others."""


def styles_of(boards: Sequence[Sequence[Row]]) -> dict[str, Style]:
    """Give each entry its look, by its `config_hash`.

    Entries of the same algorithm and critic look the same in all tasks of the page; where a task
    has several, with other options, the second of each task looks the same, and so on.
    """
    looks: dict[str, tuple[str, str, int]] = {}
    scripted: dict[tuple[str, str, int], bool] = {}
    for rows in boards:
        seen = Counter[tuple[str, str]]()
        for entry in sorted((row.entry for row in rows), key=lambda entry: entry.label):
            if entry.first.config_hash in looks:
                continue
            pair = (entry.first.algorithm.name, entry.first.critic.name)
            look = (*pair, seen[pair])
            seen[pair] += 1
            looks[entry.first.config_hash] = look
            scripted[look] = entry.scripted
    critics = sorted({critic for _, critic, _ in scripted}, key=lambda name: (name != "none", name))
    learners = sorted(look for look, is_scripted in scripted.items() if not is_scripted)
    traders = sorted(look for look, is_scripted in scripted.items() if is_scripted)
    styles = {
        look: Style(index % COLOURS, SHAPES[critics.index(look[1]) % len(SHAPES)], hollow=False)
        for index, look in enumerate(learners)
    }
    for index, look in enumerate(traders):
        styles[look] = Style(GREY, SHAPES[index % len(SHAPES)], hollow=True)
    return {config_hash: styles[look] for config_hash, look in looks.items()}


def style_of(row: Row, styles: Mapping[str, Style]) -> Style:
    """Return the look of a row."""
    return styles[row.entry.first.config_hash]


def is_grid_only(row: Row) -> bool:
    """Whether a row does nothing, in every seed: it is the line at 0."""
    return row.entry.scripted and all(seed == 0.0 for seed in row.summaries[WELFARE.key].seeds)


def mark(style: Style) -> str:
    """Return the marker of an entry as a small picture for the text."""
    svg = ET.Element("svg", {"class": "mark", "viewBox": "-8 -8 16 16", "aria-hidden": "true"})
    add_marker(svg, 0.0, 0.0, style)
    return ET.tostring(svg, encoding="unicode")


def welfare_range(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the range that holds both anchors and the intervals of all rows."""
    low, high = _bounds([i for row in rows if (i := row.interval(WELFARE))])
    return min(low, 0.0), max(high, 1.0)


def bar(interval: Interval, low: float, high: float, style: Style) -> str:
    """Return a small picture of an interval on the welfare scale, for a table cell."""
    svg = ET.Element("svg", {"class": "bar", "viewBox": "0 0 96 14", "aria-hidden": "true"})
    x = Axis(low, high, 3.0, 93.0)
    add_line(svg, x(low), 7.0, x(high), 7.0, "track")
    for anchor in (0.0, 1.0):
        add_line(svg, x(anchor), 3.0, x(anchor), 11.0, "anchor")
    group = ET.SubElement(svg, "g", {"class": f"c{style.colour}"})
    add_line(group, x(max(0.0, low)), 7.0, x(interval.estimate), 7.0, "won")
    if _bounded(interval):
        add_line(group, x(interval.low), 7.0, x(interval.high), 7.0, "range")
    ET.SubElement(
        group, "circle", {"cx": number(x(interval.estimate)), "cy": "7", "r": "3.2", "class": "dot"}
    )
    return ET.tostring(svg, encoding="unicode")


def scatter(
    rows: Sequence[Row],
    measure: Measure,
    styles: Mapping[str, Style],
    identifiers: Mapping[str, str],
    front: Sequence[str] = (),
) -> str:
    """Draw welfare against a fairness measure, with the intervals of both.

    Grid-only is no point but the line at 0: its scores of 0 would squeeze all others. The entries
    whose labels are in `front` are joined by a stair, above and right of which there is none.
    """
    points = []
    for row in rows:
        x, y = row.interval(measure), row.interval(WELFARE)
        if x is not None and y is not None and not is_grid_only(row):
            points.append(Point(row, style_of(row, styles), identifiers[row.entry.label], x=x, y=y))
    svg = new_chart(f"Welfare against {measure.title}")
    frame = Box(40.0, 30.0, WIDTH - 12.0, HEIGHT - 44.0)
    if not points:
        add_text(svg, WIDTH / 2, HEIGHT / 2, "undefined for every entry", "muted", "middle")
        return ET.tostring(svg, encoding="unicode")
    x_axis = _scale([p.x for p in points], frame.left, frame.right, unit=measure.unit)
    y_axis = _welfare_axis([p.y for p in points], frame)
    unit = f"{measure.title}, % of the bill" if measure.unit == "percent" else measure.title
    axes(svg, x_axis, y_axis, frame, f"{unit} →", "↑ Welfare", "number")
    obstacles = _anchors(svg, y_axis, frame)
    for point in points:
        obstacles += _whiskers(svg, point, x_axis, y_axis)
    places = [(x_axis(p.x.estimate), y_axis(p.y.estimate)) for p in points]
    _stair(svg, [at for p, at in zip(points, places, strict=True) if p.row.entry.label in front])
    obstacles.append(Box(0.0, 4.0, 90.0, 22.0))  # title of the vertical axis
    room = Box(frame.left, 2.0, WIDTH - 2.0, frame.bottom)
    labels = place_labels([p.row.entry.label for p in points], places, obstacles, room)
    for point, (px, py), (lx, ly, side) in reversed(list(zip(points, places, labels, strict=True))):
        name = point.row.entry.label
        told = (
            f"{name}: welfare {interval_text(point.y, WELFARE)}, "
            f"{measure.title} {interval_text(point.x, measure)}"
        )
        link = ET.SubElement(
            svg,
            "a",
            {
                "href": f"#{point.identifier}",
                "aria-label": told,
                "data-entry": point.identifier,
                "class": f"point c{point.style.colour}",
            },
        )
        ET.SubElement(link, "title").text = told
        leader = leader_of(px, py, lx, ly, side)
        if leader is not None:
            add_line(link, px, py, *leader, "leader")
        add_marker(link, px, py, point.style)
        add_text(link, lx, ly, shorten(name), "label", side)
    return ET.tostring(svg, encoding="unicode")


def _stair(svg: ET.Element, corners: Sequence[tuple[float, float]]) -> None:
    """Join the points of a front by a stair that falls to the right."""
    ordered = sorted(corners)
    path = ordered[:1]
    for x, y in ordered[1:]:
        path += [(path[-1][0], y), (x, y)]
    if len(ordered) > 1:
        points = " ".join(f"{number(x)},{number(y)}" for x, y in path)
        ET.SubElement(svg, "polyline", {"points": points, "class": "front"})


def curves(
    rows: Sequence[Row],
    styles: Mapping[str, Style],
    identifiers: Mapping[str, str],
) -> str | None:
    """Draw the learning curves with their bands; nothing if no entry has more than a point.

    Scripted traders, which have one validation and no steps, are level lines.
    """
    learners = [
        (row, row.curve) for row in rows if not row.entry.scripted and row.curve is not None
    ]
    if all(len(curve.steps) < 2 for _, curve in learners):
        return None
    scripted = [
        (row, level, source)
        for row in rows
        if row.entry.scripted
        for level, source in [_level(row)]
        if level is not None and not is_grid_only(row)
    ]
    names = [
        shorten(row.entry.label) for row in [*(r for r, _ in learners), *(r for r, *_ in scripted)]
    ]
    names += [f"{shorten(row.entry.label)} (test)" for row, _, source in scripted if source]
    room = min(max(len(name) for name in [*names, "grid-only = 0"]) * CHARACTER + 16.0, 176.0)
    frame = Box(40.0, 30.0, WIDTH - room, HEIGHT - 44.0)
    svg = new_chart("Learning curves: welfare on the validation split while training")
    x_axis = Axis(0.0, max(curve.steps[-1] for _, curve in learners), frame.left, frame.right)
    y_axis = _welfare_axis(
        [interval for _, curve in learners for interval in curve.intervals]
        + [Interval(level, level, level) for _, level, _ in scripted],
        frame,
    )
    axes(svg, x_axis, y_axis, frame, "Agent-steps →", "↑ Welfare on validation", "count")
    _anchors(svg, y_axis, frame, labels=False)
    ends: list[tuple[float, float, str, str, str | None]] = [
        (frame.right, y_axis(0.0), "grid-only = 0", "muted", None),
        (frame.right, y_axis(1.0), "optimum = 1", "muted", None),
    ]
    for row, level, source in scripted:
        style, identifier = style_of(row, styles), identifiers[row.entry.label]
        group = _series(svg, row, style, identifier)
        add_line(group, frame.left, y_axis(level), frame.right, y_axis(level), "reference")
        label = f"{shorten(row.entry.label)}{' (test)' if source else ''}"
        ends.append((frame.right, y_axis(level), label, f"label c{style.colour}", identifier))
    for row, curve in reversed(learners):
        style, identifier = style_of(row, styles), identifiers[row.entry.label]
        group = _series(svg, row, style, identifier)
        _band(group, curve, x_axis, y_axis)
        end = (x_axis(curve.steps[-1]), y_axis(max(curve.intervals[-1].estimate, FLOOR)))
        add_marker(group, *end, style)
        name = shorten(row.entry.label)
        if end[0] < frame.right - CHARACTER * len(name) - 12.0:  # ended early: name it there
            early = ET.SubElement(group, "g", {"class": "label"})
            add_text(early, end[0] - 4.0, end[1] - 11.0, name, "end-label")
        else:
            ends.append((*end, name, f"label c{style.colour}", identifier))
    _end_labels(svg, ends, frame)
    return ET.tostring(svg, encoding="unicode")


def interval_text(interval: Interval, measure: Measure) -> str:
    """Write an estimate with its interval."""
    text = written(interval.estimate, measure)
    if _bounded(interval) and interval.low < interval.high:
        text += f" [{written(interval.low, measure)}, {written(interval.high, measure)}]"
    return f"{text} %" if measure.unit == "percent" else text


def _bounded(interval: Interval) -> bool:
    """Whether there is an interval at all (too few seeds have none)."""
    return math.isfinite(interval.low) and math.isfinite(interval.high)


def _level(row: Row) -> tuple[float | None, bool]:
    """Return a scripted trader's welfare: on validation if recorded, else on test (True)."""
    if row.curve is not None:
        return row.curve.intervals[-1].estimate, False
    interval = row.interval(WELFARE)
    return (None if interval is None else interval.estimate), True


def _bounds(intervals: Sequence[Interval]) -> tuple[float, float]:
    """Return the least and greatest value of intervals with or without bounds."""
    values = [v for interval in intervals for v in interval if math.isfinite(v)]
    return min(values, default=0.0), max(values, default=1.0)


def _scale(intervals: Sequence[Interval], start: float, stop: float, unit: str) -> Axis:
    """Return a scale that shows all of `intervals` with some room around."""
    low, high = _bounds(intervals)
    least = 0.1 if unit == "score" else 1.0
    room = max(high - low, least) * 0.09
    if high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    low, high = low - room, high + room
    if unit == "score":  # scores lie in [0, 1]; leave a little room for the markers there
        return Axis(max(low, -0.03), min(high, 1.03), start, stop, least=0.0, most=1.0)
    return Axis(low, high, start, stop)


def _welfare_axis(intervals: Sequence[Interval], frame: Box) -> Axis:
    """Return the vertical scale: both anchors are always on it."""
    low, high = _bounds(intervals)
    low, high = min(max(low, FLOOR), 0.0), max(high, 1.0)
    room = (high - low) * 0.05
    return Axis(low - room, high + room, frame.bottom, frame.top)


def axes(
    svg: ET.Element,
    x_axis: Axis,
    y_axis: Axis,
    frame: Box,
    x_title: str,
    y_title: str,
    x_kind: Literal["number", "count"],
    about: int = 5,
) -> None:
    """Draw grid lines, about as many tick labels on each side, and the titles that are not ""."""
    group = ET.SubElement(svg, "g", {"class": "axes", "aria-hidden": "true"})
    for ticks, vertical in ((x_axis.ticks(about), False), (y_axis.ticks(about), True)):
        step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        if not math.isclose(round(step, digits), step):
            digits += 1
        for tick in ticks:
            if vertical:
                add_line(group, frame.left, y_axis(tick), frame.right, y_axis(tick), "grid")
                label = f"{tick:.{digits}f}".replace("-", "−")
                add_text(group, frame.left - 7.0, y_axis(tick) + 4.0, label, "tick", "end")
            else:
                count = x_kind == "count"
                label = short_count(tick) if count else f"{tick:.{digits}f}".replace("-", "−")
                add_line(group, x_axis(tick), frame.top, x_axis(tick), frame.bottom, "grid")
                add_text(group, x_axis(tick), frame.bottom + 17.0, label, "tick", "middle")
    middle = (frame.left + frame.right) / 2
    if x_title:
        add_text(group, middle, frame.bottom + 37.0, x_title, "title", "middle")
    if y_title:
        add_text(group, 8.0, frame.top - 13.0, y_title, "title")


def _anchors(svg: ET.Element, y_axis: Axis, frame: Box, labels: bool = True) -> list[Box]:
    """Draw the two fixed references, and return the room that their labels take."""
    boxes = []
    sides: tuple[tuple[float, str, Side], ...]
    sides = ((0.0, "grid-only = 0", "end"), (1.0, "optimum = 1", "start"))
    for value, name, side in sides:
        y, width = y_axis(value), len(name) * CHARACTER
        add_line(svg, frame.left, y, frame.right, y, "fixed")
        boxes.append(Box(frame.left, y - 1.0, frame.right, y + 1.0))
        if labels:
            x = frame.left + 5.0 if side == "start" else frame.right - 5.0
            left = x if side == "start" else x - width
            add_text(svg, x, y - 5.0, name, "muted", side)
            boxes.append(Box(left, y - LINE, left + width, y))
    return boxes


def _whiskers(svg: ET.Element, point: Point, x_axis: Axis, y_axis: Axis) -> list[Box]:
    """Draw the intervals of a point, and return the room that it takes."""
    x, y = x_axis(point.x.estimate), y_axis(point.y.estimate)
    attributes = {"class": f"whiskers c{point.style.colour}", "data-entry": point.identifier}
    group = ET.SubElement(svg, "g", attributes)
    boxes = [Box(x - 7.0, y - 7.0, x + 7.0, y + 7.0)]
    if _bounded(point.x):
        low, high = x_axis(point.x.low), x_axis(point.x.high)
        add_line(group, low, y, high, y, "whisker")
        boxes.append(Box(low, y - 4.0, high, y + 4.0))
    if _bounded(point.y):
        low, high = y_axis(point.y.low), y_axis(point.y.high)
        add_line(group, x, low, x, high, "whisker")
        boxes.append(Box(x - 4.0, high, x + 4.0, low))
    return boxes


def _series(svg: ET.Element, row: Row, style: Style, identifier: str) -> ET.Element:
    """Begin the group of one entry's line."""
    attributes = {"class": f"series c{style.colour} {style.shape}", "data-entry": identifier}
    group = ET.SubElement(svg, "g", attributes)
    ET.SubElement(group, "title").text = row.entry.label
    return group


def _band(group: ET.Element, curve: CurveBand, x_axis: Axis, y_axis: Axis) -> None:
    """Draw one learning curve over its band."""
    pairs = list(zip(curve.steps, curve.intervals, strict=True))
    line = [(x_axis(s), y_axis(max(i.estimate, FLOOR))) for s, i in pairs]
    bounded = [(s, i) for s, i in pairs if _bounded(i)]
    if bounded:
        upper = [(x_axis(s), y_axis(max(i.high, FLOOR))) for s, i in bounded]
        lower = [(x_axis(s), y_axis(max(i.low, FLOOR))) for s, i in reversed(bounded)]
        outline = " ".join(f"{number(x)},{number(y)}" for x, y in [*upper, *lower])
        ET.SubElement(group, "polygon", {"points": outline, "class": "band"})
    path = " ".join(f"{number(x)},{number(y)}" for x, y in line)
    ET.SubElement(group, "polyline", {"points": path, "class": "curve"})


def _end_labels(
    svg: ET.Element, ends: Sequence[tuple[float, float, str, str, str | None]], frame: Box
) -> None:
    """Write the names of lines right of the picture, spread so that none hides another."""
    ordered = sorted(ends, key=lambda end: (end[1], end[2]))
    heights = [end[1] for end in ordered]
    for _ in range(200):  # neighbours that are too close push each other apart
        for index in range(1, len(heights)):
            missing = LINE - (heights[index] - heights[index - 1])
            if missing > 0.0:
                heights[index - 1] -= missing / 2
                heights[index] += missing / 2
    for (x, y, name, style, identifier), height in zip(ordered, heights, strict=True):
        attributes = {"data-entry": identifier} if identifier else {}
        group = ET.SubElement(svg, "g", attributes | {"class": style})
        if abs(height - y) > 2.0 or x < frame.right - 1.0:
            add_line(group, x + 7.0, y, frame.right + 10.0, height, "leader")
        add_text(group, frame.right + 13.0, height + 4.0, name, "end-label")
