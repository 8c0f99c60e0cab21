"""What the charts are drawn with: boxes, axes, SVG elements and labels that keep apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET

from peerwatt.evaluation.statistics import Interval
from peerwatt.runs.summary import Row

WIDTH, HEIGHT = 460, 350
CHARACTER, LINE = 7.2, 15.0
"""Room taken by a letter and by a line of a label, generously (phones show them larger)."""

Side = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Style:
    """How an entry looks in every picture."""

    colour: int
    shape: str
    hollow: bool
    """Scripted traders are drawn hollow."""


@dataclass(frozen=True)
class Box:
    """A rectangle in the picture."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Return the area shared with `other`."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def outside(self, frame: Box) -> float:
        """Return how far it sticks out of `frame`."""
        return (
            max(frame.left - self.left, 0.0)
            + max(frame.top - self.top, 0.0)
            + max(self.right - frame.right, 0.0)
            + max(self.bottom - frame.bottom, 0.0)
        )


@dataclass(frozen=True)
class Axis:
    """A linear scale from data to picture."""

    low: float
    high: float
    start: float
    stop: float
    least: float = -math.inf
    most: float = math.inf
    """Values beyond these do not exist: room for markers, but no tick."""

    def __call__(self, value: float) -> float:
        """Return the place of `value` in the picture."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 1)

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values inside the scale."""
        raw = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        ticks = [round(index * step, 10) + 0.0 for index in range(first, last + 1)]
        return [tick for tick in ticks if self.least <= tick <= self.most]


@dataclass(frozen=True)
class Point:
    """One entry in the scatter."""

    row: Row
    style: Style
    identifier: str
    x: Interval
    y: Interval


def shorten(name: str, most: int = 24) -> str:
    """Cut the middle out of a long name: variants of one thing differ at the end."""
    head = most // 2
    return name if len(name) <= most else f"{name[:head]}…{name[head + 1 - most :]}"


def number(value: float) -> str:
    """Write a coordinate shortly."""
    return f"{value:.1f}".removesuffix(".0")


def new_chart(label: str, width: int = WIDTH, height: int = HEIGHT) -> ET.Element:
    """Begin a picture."""
    return ET.Element(
        "svg",
        {
            "class": "chart",
            "viewBox": f"0 0 {width} {height}",
            "role": "group",
            "aria-label": label,
        },
    )


def add_line(parent: ET.Element, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
    """Draw a line."""
    ET.SubElement(
        parent,
        "line",
        {"x1": number(x1), "y1": number(y1), "x2": number(x2), "y2": number(y2), "class": style},
    )


def add_text(
    parent: ET.Element, x: float, y: float, text: str, style: str, side: Side = "start"
) -> ET.Element:
    """Write text."""
    attributes = {"x": number(x), "y": number(y), "class": style}
    if side != "start":
        attributes["text-anchor"] = side
    element = ET.SubElement(parent, "text", attributes)
    element.text = text
    return element


def add_marker(parent: ET.Element, x: float, y: float, style: Style) -> None:
    """Draw the marker of an entry."""
    hollow = " hollow" if style.hollow else ""
    attributes = {"class": f"marker{hollow} c{style.colour}"}
    if style.shape == "circle":
        ET.SubElement(parent, "circle", attributes | {"cx": number(x), "cy": number(y), "r": "5"})
        return
    corners = {
        "diamond": [(0.0, -6.6), (6.6, 0.0), (0.0, 6.6), (-6.6, 0.0)],
        "square": [(-4.8, -4.8), (4.8, -4.8), (4.8, 4.8), (-4.8, 4.8)],
        "triangle": [(0.0, -6.2), (6.0, 4.6), (-6.0, 4.6)],
        "star": [
            (r * math.sin(k * math.pi / 5), -r * math.cos(k * math.pi / 5))
            for k, r in enumerate([7.0, 3.2] * 5)
        ],
        "cross": [
            (a * sx, b * sy)
            for sx, sy, pairs in (
                (1, -1, [(1.9, 6.0), (1.9, 1.9), (6.0, 1.9)]),
                (1, 1, [(6.0, 1.9), (1.9, 1.9), (1.9, 6.0)]),
                (-1, 1, [(1.9, 6.0), (1.9, 1.9), (6.0, 1.9)]),
                (-1, -1, [(6.0, 1.9), (1.9, 1.9), (1.9, 6.0)]),
            )
            for a, b in pairs
        ],
    }[style.shape]
    points = " ".join(f"{number(x + dx)},{number(y + dy)}" for dx, dy in corners)
    ET.SubElement(parent, "polygon", attributes | {"points": points})


def place_labels(
    names: Sequence[str],
    points: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    frame: Box,
) -> list[tuple[float, float, Side]]:
    """Find a place for each label that hides as little as possible.

    Each label tries places around its point, near ones first, and takes the one with the least
    overlap; a few sweeps let early labels give way to later ones.
    """
    widths = [len(shorten(name)) * CHARACTER for name in names]
    placed: list[Box | None] = [None] * len(names)
    result: list[tuple[float, float, Side]] = [(x, y, "start") for x, y in points]
    for _ in range(6):
        for index, (x, y) in enumerate(points):
            best = math.inf
            for cost, (lx, ly, side) in candidates(x, y):
                shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[side] * widths[index]
                box = Box(lx - shift, ly - 12.0, lx - shift + widths[index], ly + 3.0)
                cost += 40.0 * box.outside(frame)
                cost += sum(box.overlap(obstacle) for obstacle in obstacles)
                others = (b for other, b in enumerate(placed) if other != index and b is not None)
                cost += sum(3.0 * box.overlap(other) for other in others)
                leader = leader_of(x, y, lx, ly, side)
                if leader is not None:
                    cost += 80.0 * sum(
                        math.hypot(px - x, py - y) > 3.0 and distance(px, py, x, y, *leader) < 8.0
                        for px, py in points
                    )
                if cost < best:
                    best, placed[index], result[index] = cost, box, (lx, ly, side)
    return result


def leader_of(
    x: float, y: float, label_x: float, label_y: float, side: Side
) -> tuple[float, float] | None:
    """Return where the line from a point to its label ends; nothing if they are close."""
    end_x = {"start": label_x - 2.0, "middle": label_x, "end": label_x + 2.0}[side]
    end_y = label_y + 3.0 if side == "middle" and label_y < y else label_y - 4.0
    if side == "middle" and label_y > y:
        end_y = label_y - 11.0
    return (end_x, end_y) if math.hypot(end_x - x, end_y - y) > 18.0 else None


def distance(px: float, py: float, x1: float, y1: float, x2: float, y2: float) -> float:
    """Return how far a point is from a line between two others."""
    dx, dy = x2 - x1, y2 - y1
    share = ((px - x1) * dx + (py - y1) * dy) / (dx * dx + dy * dy or 1.0)
    share = min(max(share, 0.0), 1.0)
    return math.hypot(px - x1 - share * dx, py - y1 - share * dy)


def candidates(x: float, y: float) -> list[tuple[float, tuple[float, float, Side]]]:
    """Return places for the label of a point at (x, y), each with what it costs to be there."""
    places: list[tuple[float, tuple[float, float, Side]]] = []
    for ring, distance in enumerate((0.0, 14.0, 28.0, 42.0, 56.0)):
        cost = 30.0 * ring
        places += [
            (cost + 4.0, (x, y - 11.0 - distance, "middle")),
            (cost + 5.0, (x, y + 19.0 + distance, "middle")),
        ]
        sides: tuple[tuple[float, Side], ...] = ((1.0, "start"), (-1.0, "end"))
        for away, side in sides:
            near = x + away * (10.0 + distance * 0.4)
            extra = 0.0 if side == "start" else 1.0
            places.append((cost + extra, (x + away * (10.0 + distance), y + 4.0, side)))
            places.append((cost + extra + 2.0, (near, y - 7.0 - distance, side)))
            places.append((cost + extra + 2.0, (near, y + 15.0 + distance, side)))
    return places
