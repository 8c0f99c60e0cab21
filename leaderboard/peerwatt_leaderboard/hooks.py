"""What the leaderboard registers with PeerWatt."""

from __future__ import annotations

from collections.abc import Iterable

from peerwatt.plugins.specs import CommandSpec, hookimpl


@hookimpl
def peerwatt_commands() -> Iterable[CommandSpec]:
    """Return the commands of the leaderboard."""
    return [
        CommandSpec(
            name="leaderboard build",
            factory="peerwatt_leaderboard.command:build",
            summary="Build the leaderboard page from a folder of results.",
        ),
        CommandSpec(
            name="report",
            factory="peerwatt_leaderboard.report.command:report",
            summary="Write a report on a folder of results, as HTML and Markdown.",
        ),
    ]
