"""PeerWatt: a benchmark for multi-agent learning in peer-to-peer electricity markets.

Importing this package imports nothing heavy; what is named here loads on first use.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from peerwatt.community import Task
    from peerwatt.env.gymnasium import HouseholdVectorEnv
    from peerwatt.env.pettingzoo import ParallelMarket
    from peerwatt.env.vector import VectorMarket
    from peerwatt.runs.tables import Level

    __version__: str

__all__ = [
    "PeerWattError",
    "Task",
    "VectorMarket",
    "__version__",
    "gym_vector_env",
    "load_results",
    "load_task",
    "parallel_env",
]

_LAZY = {
    "PeerWattError": "peerwatt.errors",
    "Task": "peerwatt.community",
    "VectorMarket": "peerwatt.env.vector",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("peerwatt")
        except PackageNotFoundError:  # a source tree that is not installed
            value = "0+unknown"
    elif name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_task(name: str | Path) -> Task:
    """Return the task called `name`, such as "pilot-v1", or that of a card's path ending in .toml.

    Raises:
        PeerWattError: there is no such task, or its card is wrong.
    """
    from peerwatt.plugins.loader import load_task

    return load_task(name)


def _task(task: str | Path | Task) -> Task:
    return load_task(task) if isinstance(task, str | Path) else task


def parallel_env(task: str | Path | Task, **options: Any) -> ParallelMarket:
    """Return a PettingZoo `ParallelEnv` of one community of `task`.

    Args:
        task: a task, its name, or the path of its card.
        options: see `peerwatt.env.pettingzoo.ParallelMarket`.
    """
    from peerwatt.env.pettingzoo import ParallelMarket

    return ParallelMarket(_task(task), **options)


def gym_vector_env(task: str | Path | Task, num_envs: int, **options: Any) -> HouseholdVectorEnv:
    """Return a Gymnasium `VectorEnv` over the households of `num_envs` communities of `task`.

    Args:
        task: a task, its name, or the path of its card.
        num_envs: number of communities B; the vector has B * N environments.
        options: see `peerwatt.env.gymnasium.HouseholdVectorEnv`.
    """
    from peerwatt.env.gymnasium import HouseholdVectorEnv

    return HouseholdVectorEnv(_task(task), num_envs, **options)


def load_results(folder: str | Path, level: Level = "run") -> pandas.DataFrame:
    """Return every result below `folder` as a tidy table with the numbers of the leaderboard.

    Args:
        folder: folder of runs, such as "runs".
        level: "run" (a row per run), "episode" (per run and test episode) or "curve" (per run and
            validation in training).

    Returns:
        The table; `attrs["columns"]` has unit and meaning of each column, and docs/reports.md
        lists them. What is undefined is NaN or NA.

    Raises:
        PeerWattError: pandas is not installed (`pip install 'peerwatt[tables]'`), the level is
            unknown, or there are no results or a wrong one.
    """
    from peerwatt.runs.export import load_results

    return load_results(folder, level)
