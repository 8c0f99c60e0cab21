"""What travels between the command and a worker elsewhere: jobs, news, and folders as bytes.

A worker has the results folder to itself, for it is a temporary one on its own machine. What is in
it comes to the command's folder by `news`: after each checkpoint and at the end.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import FILES, registry
from peerwatt.runs.checkpoint import CHECKPOINT_FILE
from peerwatt.runs.config import ResolvedRun, RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.runs.executors import Failure, failure_of
from peerwatt.runs.files import write_whole
from peerwatt.runs.stopping import RunStopped, Stop
from peerwatt.runs.store import RESULT_FILE, work_folder
from peerwatt.runs.work import WORK_FILES

HEARTBEAT_SECONDS = 1.0
"""How often a worker tells how far it is, and asks whether it is to go on."""
GO_ON, STOP, FORGET = "go on", "stop", "forget"
"""Answers to news. The last one: nobody waits for this attempt any more."""

Files = dict[str, bytes]
"""File name -> content."""


@dataclass(frozen=True)
class Luggage:
    """All that a worker needs for one attempt at a run."""

    index: int
    attempt: int
    """Which attempt at the run this is; news and results of earlier ones do not count."""
    config: bytes
    """The pickled `RunConfig`: plugins are loaded before its options can be read."""
    config_hash: str
    again: bool
    checkpoint_seconds: float
    work: Files
    """The work folder to go on from."""
    plugins: dict[str, str]
    """Plugins that are single files: path where the command is -> source."""
    cwd: str
    """Folder that relative paths in options start from."""


@dataclass(frozen=True)
class News:
    """How far an attempt is."""

    index: int
    attempt: int
    where: str
    agent_steps: int = 0
    calls: int = 0
    work: Files = field(default_factory=dict)
    """The work folder after a checkpoint; empty if there is no new one."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    failure: Failure | None
    stopped: bool
    files: Files
    """The folder of the finished run, else the work folder as it was left."""


class Mailbox:
    """Keeps the latest news of each run until the command takes them."""

    def __init__(self) -> None:
        self._current: dict[int, int] = {}
        self._news: dict[int, News] = {}
        self._stop = False

    def expect(self, index: int, attempt: int) -> None:
        """Let news of `attempt` at run `index` count, and of no other."""
        self._current[index] = attempt
        self._news.pop(index, None)

    def tell(self, news: News) -> str:
        """Take `news` and answer what the worker is to do."""
        if self._current.get(news.index) != news.attempt:
            return FORGET
        before = self._news.get(news.index)
        if before is not None and not news.work:
            news = News(**{**vars(news), "work": before.work})
        self._news[news.index] = news
        return STOP if self._stop else GO_ON

    def stop(self) -> None:
        """Ask all runs to stop."""
        self._stop = True

    def take(self) -> list[News]:
        """Return what has come in since the last time."""
        news, self._news = list(self._news.values()), {}
        return news


def packed(folder: Path, names: tuple[str, ...] | None = None) -> Files:
    """Return the files of `folder`, or those of `names` that are there."""
    files = sorted(folder.iterdir()) if names is None else [folder / name for name in names]
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def unpack_work(work: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a work folder, whole each, so that a kill at any moment does no harm.

    The checkpoint comes after what it states the lengths of, the result after all others.

    Raises:
        OSError: the disk refuses.
    """
    work.mkdir(parents=True, exist_ok=True)
    last = {CHECKPOINT_FILE: 1, RESULT_FILE: 2}
    for name in sorted(files, key=lambda name: (last.get(name, 0), name)):
        if Path(name).name != name or name.startswith("."):
            raise PeerWattError(f"a worker sent a file named {name!r}, which is no file name.")
        write_whole(work / name, files[name])


def plugin_files() -> dict[str, str]:
    """Return path -> source of the plugins that are single files here.

    Raises:
        PeerWattError: one cannot be read.
    """
    paths = [Path(text) for text in os.environ.get(FILES, "").split(os.pathsep) if text]
    try:
        return {str(path.absolute()): path.read_text(encoding="utf-8") for path in paths}
    except OSError as error:
        raise PeerWattError(f"plugin {error.filename}: {error.strerror}.") from None


def resolved(config: bytes, plugins: Mapping[str, str], cwd: str) -> ResolvedRun:
    """Return the run that `config` means on this machine.

    Raises:
        PeerWattError: a name or a file is not there.
    """
    _install(tuple(sorted(plugins.items())))
    with contextlib.suppress(OSError):  # only relative paths need it
        os.chdir(cwd)
    registry()
    # Pickled by the command that is in charge, whose code this machine runs anyway.
    asked: RunConfig = pickle.loads(config)
    return resolve(asked)


def problem_with(
    configs: Sequence[tuple[bytes, str]], plugins: Mapping[str, str], cwd: str
) -> str | None:
    """Return why this machine cannot execute the runs of `configs`, or would do others; else None.

    Args:
        configs: configurations, pickled, and the hashes that they have where the command is.
        plugins: path -> source of the plugins that are single files.
        cwd: folder that relative paths start from.
    """
    for config, config_hash in configs:
        try:
            run = resolved(config, plugins, cwd)
        except PeerWattError as error:
            return str(error)
        if run.config_hash != config_hash:
            return _another(run.label)
    return None


def _another(label: str) -> str:
    return (
        f"{label} is another run there: let the plugins, and the files that options name, be the "
        "same on all machines"
    )


@cache
def _install(plugins: tuple[tuple[str, str], ...]) -> None:
    """Let this process find the plugins that are single files on the command's machine."""
    if not plugins:
        return
    files = []
    for path, source in plugins:
        file = Path(path)
        # Where the same file is there, a copy would be a second module of its name.
        if not _holds(file, source):
            file = Path(tempfile.mkdtemp(prefix="peerwatt-plugin-")) / file.name
            file.write_text(source, encoding="utf-8")
        files.append(str(file))
    os.environ[FILES] = os.pathsep.join(files)
    registry.cache_clear()


def _holds(file: Path, text: str) -> bool:
    try:
        return file.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def carry_out(luggage: Luggage, where: str, tell: Callable[[News], str]) -> Outcome:
    """Execute one run on this machine and return what became of it.

    Args:
        luggage: the run.
        where: names this worker.
        tell: takes news and answers; raises when the command is gone.
    """
    results = Path(tempfile.mkdtemp(prefix="peerwatt-run-"))
    try:
        with _Messenger(luggage, where, tell, results) as messenger:
            try:
                run = resolved(luggage.config, luggage.plugins, luggage.cwd)
                if run.config_hash != luggage.config_hash:
                    raise PeerWattError(f"{where}: {_another(run.label)}.")
                work = work_folder(results, run)
                unpack_work(work, luggage.work)
                folder = execute(
                    run,
                    results,
                    messenger.progress,
                    again=luggage.again,
                    checkpoint_seconds=luggage.checkpoint_seconds,
                    stop=messenger.stop,
                    saved=lambda: messenger.saved(packed(work, WORK_FILES)),
                )
            except RunStopped:
                return Outcome(None, stopped=True, files=packed(work, WORK_FILES))
            except (Exception, SystemExit) as error:
                return Outcome(failure_of(error), stopped=False, files={})
            return Outcome(None, stopped=False, files=packed(folder))
    finally:
        shutil.rmtree(results, ignore_errors=True)


class _Messenger:
    """Sends the latest news from a thread, one message at a time; ends this process if unheard."""

    def __init__(
        self, luggage: Luggage, where: str, tell: Callable[[News], str], results: Path
    ) -> None:
        self.stop = Stop()
        self._luggage, self._where, self._tell, self._results = luggage, where, tell, results
        self._far = (0, 0)
        self._work: Files = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Messenger:
        self._send()  # before anything else: a run that nobody waits for is not begun
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._wake.set()
        self._thread.join()

    def progress(self, agent_steps: int, calls: int) -> None:
        """Take in how far the run is."""
        self._far = (agent_steps, calls)

    def saved(self, work: Files) -> None:
        """Take in the work folder after a checkpoint."""
        with self._lock:
            self._work = work
        self._wake.set()

    def _run(self) -> None:
        while not self._over:
            self._wake.wait(HEARTBEAT_SECONDS)
            self._wake.clear()
            if not self._over:  # else the outcome says it all
                self._send()

    def _send(self) -> None:
        with self._lock:
            work, self._work = self._work, {}
        agent_steps, calls = self._far
        luggage = self._luggage
        news = News(luggage.index, luggage.attempt, self._where, agent_steps, calls, work)
        try:
            answer = self._tell(news)
        except Exception as error:
            print(f"the command cannot be told of this run: {error}", file=sys.stderr)
            answer = FORGET
        if answer == FORGET:
            shutil.rmtree(self._results, ignore_errors=True)
            os._exit(1)
        if answer == STOP:
            self.stop.ask()
