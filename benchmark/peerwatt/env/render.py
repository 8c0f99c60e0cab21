"""A picture of an episode: energy, trade, storage and prices of one community."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from peerwatt.community import Task
from peerwatt.community.task import tariff_rows
from peerwatt.env.kernel import Slot
from peerwatt.env.records import slot_batch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

INK, MUTED, GRID = "#22303c", "#5f6f7c", "#e3e8ec"
PV, IMPORT, STORAGE, TRADE, LOAD = "#f2b134", "#8fa3b3", "#7a6bb8", "#1b9e77", "#22303c"


def episode_figure(task: Task, record: Slot, communities: int = 1, community: int = 0) -> Figure:
    """Draw one community's episode.

    Args:
        task: the task that was played.
        record: T slots of B communities, time first, flat over [T, B, N] and [T, B]; T may be less
            than the horizon.
        communities: number of communities B in the record.
        community: which of them to draw.

    Returns:
        A figure with its own canvas; no global state of pyplot is touched.
    """
    n = task.community.size
    one = Slot(
        *(
            field.reshape(-1, communities, field.size // (record.tariff.size))[:, community].ravel()
            for field in record
        )
    )
    slots = slot_batch(task, tariff_rows(task.community, task.card.market.price_levels)[0], one)
    hours = np.linspace(
        0, len(one.tariff) * task.card.episode.slot_minutes / 60, len(one.tariff) + 1
    )

    layout = ConstrainedLayoutEngine(h_pad=0.06, hspace=0.05)
    figure = Figure(figsize=(9, 9), dpi=100, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    heights = {"energy": 2.4, "trade": 1.1, "storage": 1.0, "prices": 1.5}
    if not task.community.has_storage:
        del heights["storage"]
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=list(heights.values()))
    panel = dict(zip(heights, axes, strict=True))
    figure.suptitle(
        f"{task.card.title} ({task.name}): {n} households",
        color=INK,
        fontsize=13,
        fontweight="bold",
    )
    feasible = np.minimum(slots.surplus.sum(axis=1), slots.deficit.sum(axis=1))
    _energy(panel["energy"], hours, one, n)
    _trade(panel["trade"], hours, slots.volume, feasible)
    if "storage" in panel:
        _storage(panel["storage"], hours, task, one)
    _prices(panel["prices"], hours, task, slots.feed_in, slots.retail, slots.mean_price)
    for axis in axes:
        axis.grid(axis="both", color=GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(colors=MUTED, labelsize=9, length=0)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.spines["bottom"].set_color(MUTED)
        axis.yaxis.label.set_color(INK)
        for day in range(1, task.card.episode.days):
            axis.axvline(24 * day, color=MUTED, linewidth=1)
    axes[-1].set_xlim(0, task.card.episode.days * 24)
    axes[-1].xaxis.set_major_locator(MultipleLocator(6))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda hour, _: f"{int(hour) % 24:02d}:00"))
    axes[-1].set_xlabel("time of day", color=INK)
    return figure


def rgb_array(figure: Figure) -> NDArray[np.uint8]:
    """Return the figure as pixels [height, width, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _legend(axis: Axes, columns: int) -> None:
    axis.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        borderaxespad=0.2,
        handlelength=1.2,
        columnspacing=1.2,
    )


def _stack(
    axis: Axes, hours: Floats, parts: list[tuple[str, str, Floats]], sign: int, alpha: float
) -> None:
    base = np.zeros(len(hours) - 1)
    for label, color, values in parts:
        top = base + sign * values
        axis.stairs(
            top, hours, baseline=base, fill=True, color=color, alpha=alpha, label=label, linewidth=0
        )
        base = top


def _energy(axis: Axes, hours: Floats, one: Slot, n: int) -> None:
    def total(values: NDArray[np.int64]) -> Floats:
        return np.asarray(values.reshape(-1, n).sum(axis=1) / 1024.0, np.float64)

    rest = one.position - one.traded
    sources = [("PV", PV, total(one.pv)), ("grid import", IMPORT, total(np.maximum(-rest, 0)))]
    uses = [("", IMPORT, total(np.maximum(rest, 0)))]
    below = "below 0: grid export"
    if one.charge.any() or one.discharge.any():
        sources.insert(1, ("from batteries", STORAGE, total(one.discharge)))
        uses.insert(0, ("", STORAGE, total(one.charge)))
        below = "below 0: into batteries, grid export"
    _stack(axis, hours, sources, 1, 0.9)
    _stack(axis, hours, uses, -1, 0.45)
    axis.stairs(total(one.load), hours, color=LOAD, linewidth=2, label="load", baseline=None)
    axis.axhline(0, color=MUTED, linewidth=1)
    axis.set_ylabel("energy, kWh per slot")
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.0) - 0.07 * (high - low), high)
    axis.text(
        0.008, 0.03, below, transform=axis.transAxes, fontsize=8.5,
        color=MUTED,
    )  # fmt: skip
    _legend(axis, 4)


def _trade(axis: Axes, hours: Floats, volume: Floats, feasible: Floats) -> None:
    axis.stairs(feasible, hours, color=MUTED, linewidth=1, linestyle="--", label="tradable")
    axis.stairs(volume, hours, fill=True, color=TRADE, alpha=0.9, label="traded inside")
    axis.set_ylim(bottom=0)
    axis.set_ylabel("kWh per slot")
    _legend(axis, 2)


def _storage(axis: Axes, hours: Floats, task: Task, one: Slot) -> None:
    community = task.community
    owners = community.capacity > 0
    axis.set_ylim(0, 100)
    axis.set_ylabel("charge, %")
    level = np.vstack([np.zeros(community.size), one.stored.reshape(-1, community.size).cumsum(0)])
    share = 100 * (level + community.lowest)[:, owners] / community.capacity[owners]
    axis.fill_between(
        hours, share.min(axis=1), share.max(axis=1), color=STORAGE, alpha=0.22, linewidth=0,
        label="lowest to highest home",
    )  # fmt: skip
    axis.plot(hours, share.mean(axis=1), color=STORAGE, linewidth=2, label="mean of homes")
    _legend(axis, 2)


def _prices(
    axis: Axes, hours: Floats, task: Task, feed_in: Floats, retail: Floats, mean: Floats
) -> None:
    axis.stairs(
        retail, hours, baseline=feed_in, fill=True, color=PV, alpha=0.18, linewidth=0,
        label="feed-in to retail",
    )  # fmt: skip
    axis.stairs(retail, hours, color=PV, linewidth=1.5, baseline=None)
    axis.stairs(feed_in, hours, color=PV, linewidth=1.5, baseline=None)
    middle = (hours[1:] + hours[:-1]) / 2
    axis.plot(
        middle, mean, color=TRADE, marker="o", markersize=4, linewidth=1.2, label="mean trade price"
    )
    axis.set_ylim(0, float(retail.max()) * 1.12)
    axis.set_ylabel(f"price, {task.card.tariff.currency}/kWh")
    _legend(axis, 2)
