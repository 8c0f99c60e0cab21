"""What people see while runs are executed: a live table, or plain lines where it is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from peerwatt.errors import shown
from peerwatt.runs.executors import Began, Ended, Event, Lost, Played

LINE_SECONDS = 60.0
"""Least time between two plain lines on progress."""
REFRESHES = 2
"""Of the table, per second: each takes some milliseconds from the runs."""
MOST_TOLD = 4
"""Runs in progress that a plain line names."""


def spoken(seconds: float) -> str:
    """Write a duration as people say it: "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass
class _Running:
    """A run in progress."""

    label: str
    budget: int
    where: str
    began: float
    first: tuple[float, int] | None = None
    """When it first told how far it is, and how far: runs go on from checkpoints."""
    last: tuple[float, int] | None = None
    calls: int = 0

    @property
    def agent_steps(self) -> int:
        return self.last[1] if self.last else 0

    @property
    def speed(self) -> float | None:
        """Agent-steps a second since it began here."""
        if self.first is None or self.last is None or self.last[0] <= self.first[0]:
            return None
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])

    @property
    def left(self) -> float | None:
        """Seconds of training that are left."""
        return (self.budget - self.agent_steps) / self.speed if self.speed else None

    def line(self) -> str:
        """Tell it in a few words."""
        if not self.budget:
            return f"{self.label}: scripted"
        text = f"{self.label}: {self.agent_steps / self.budget:.0%}"
        text += f", {self.speed / 1000:,.0f} k/s" if self.speed else ""
        text += f", {spoken(self.left)} left" if self.left is not None else ""
        return text + (f", {self.calls:,} calls" if self.calls else "")


class LiveView:
    """Takes the events of an executor and shows them; a context manager."""

    def __init__(
        self, console: Console, runs: Mapping[int, tuple[str, int]], already_done: int = 0
    ) -> None:
        """Show `runs`: index -> (label, budget in agent-steps)."""
        self.console = console
        self._runs = dict(runs)
        self._already_done = already_done
        self._running: dict[int, _Running] = {}
        self._played: dict[int, int] = {}  # since it began here
        self._done = self._failed = 0
        self._stopped = False
        self._began = self._line = time.monotonic()
        self._live: Live | None = None

    @property
    def done(self) -> int:
        """Runs that are done, with those that were before."""
        return self._already_done + self._done

    @property
    def total(self) -> int:
        """All runs."""
        return self._already_done + len(self._runs)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._table,
                console=self.console,
                refresh_per_second=REFRESHES,
                transient=True,
            )
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
        self._stopped = kind is KeyboardInterrupt
        self.console.print(Text(self._counts()), soft_wrap=True)

    def take(self, event: Event) -> None:
        """Take in what an executor tells."""
        now = time.monotonic()
        label, budget = self._runs[event.index]
        match event:
            case Began(index, where):
                self._running[index] = _Running(label, budget, where, now)
            case Played(index, agent_steps, calls):
                run = self._running.setdefault(index, _Running(label, budget, "", now))
                run.first = run.first or (now, agent_steps)
                run.last, run.calls = (now, agent_steps), calls
                self._played[index] = agent_steps
            case Lost(index, why):
                self._running.pop(index, None)
                self._say("yellow", "lost", f"{label}: {why}; it is tried again")
            case Ended(index, failure):
                ended = self._running.pop(index, None)
                self._played[index] = budget
                self._done += failure is None
                self._failed += failure is not None
                took = f" in {spoken(now - ended.began)}" if ended else ""
                if failure is None:
                    self._say("green", "done", f"{label}{took}")
                else:
                    self._say("red", "failed", f"{label}{took}: {shown(failure.sentence, 200)}")
        if self._live is None and now >= self._line + LINE_SECONDS:
            self._line = now
            lines = [run.line() for run in self._running.values()]
            more = [f"and {len(lines) - MOST_TOLD} more"] if len(lines) > MOST_TOLD else []
            told = "; ".join([self._counts(), *lines[:MOST_TOLD], *more])
            self.console.print(Text(told), soft_wrap=True)

    def _say(self, colour: str, word: str, text: str) -> None:
        self.console.print(
            f"[{colour}]{word:<6}[/] {escape(text)}", highlight=False, soft_wrap=True
        )

    def _counts(self) -> str:
        """Tell how many runs are done, running and failed, and how long it takes."""
        text = f"{self.done}/{self.total} runs done"
        state = "stopped" if self._stopped else "running"
        text += f", {len(self._running)} {state}" if self._running else ""
        text += f", {self._failed} failed" if self._failed else ""
        text += f"; {spoken(time.monotonic() - self._began)}"
        left = None if self._stopped else self._left()
        return text + (f", about {spoken(left)} left" if left is not None else "")

    def _left(self) -> float | None:
        """Return seconds to the end, at the speed that all runs together had so far."""
        waiting = [i for i in self._runs if i not in self._played]
        todo = sum(self._runs[i][1] for i in waiting)
        todo += sum(run.budget - run.agent_steps for run in self._running.values())
        speed = sum(run.speed or 0.0 for run in self._running.values())
        return todo / speed if todo and speed else None

    def _table(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        names = ("running", "agent-steps", "k/s", "left", "calls", "worker")
        calls = any(run.calls for run in self._running.values())
        for name in names:
            if name != "calls" or calls:
                right = name not in ("running", "worker")
                table.add_column(name, justify="right" if right else "left", style="cyan")
        for run in self._running.values():
            cells = [
                escape(run.label),
                f"{run.agent_steps / 1e6:.2f}/{run.budget / 1e6:.2f} M"
                if run.budget
                else "scripted",
                f"{run.speed / 1000:,.0f}" if run.speed else "",
                spoken(run.left) if run.left is not None else "",
                *([f"{run.calls:,}"] if calls else []),
                escape(run.where),
            ]
            table.add_row(*cells)
        counts = Text(self._counts(), style="bold")
        return Group(counts, table) if self._running else counts
