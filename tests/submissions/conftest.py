"""Finished runs and packed entries, made once."""

import sys
from pathlib import Path

import pytest
from entry_workshop import Workshop

from peerwatt.cli.submit import run
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute

WHO = ("--name", "Ada Lovelace", "--contact", "ada@example.org")


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Two seeds of a scripted trader and of a tiny learner, as folders of entries."""
    results = tmp_path_factory.mktemp("runs")
    tiny = (("num_envs", 4), ("hidden", (8,)), ("epochs", 1), ("minibatches", 1))
    folders = {}
    for seed in (0, 1):
        for algorithm, options in (("mid-quote", ()), ("ippo", tiny)):
            config = RunConfig(
                task="pilot-v1",
                algorithm=algorithm,
                seed=seed,
                budget=2_000,
                validations=1,
                algorithm_options=options,
            )
            folders[algorithm] = execute(resolve(config), results).parent
    return folders


@pytest.fixture(scope="session")
def packed(runs, tmp_path_factory):
    """The folders of both entries in one results root."""
    root = tmp_path_factory.mktemp("packed")
    for folder in runs.values():
        run(["pack", str(folder), "--out", str(root), "--code-url", "https://example.org/a", *WHO])
    return {name: next(root.glob(f"pilot-v1/{name}/*/*")) for name in runs}


@pytest.fixture
def learner(packed, tmp_path):
    """A copy of the learner's entry, alone in a results root."""
    return Workshop(packed["ippo"], tmp_path / "results")


@pytest.fixture
def trader(packed, tmp_path):
    """A copy of the scripted trader's entry, alone in a results root."""
    return Workshop(packed["mid-quote"], tmp_path / "results")


@pytest.fixture
def submit(capsys):
    """Run `peerwatt submit` in this process; return exit code, stdout, stderr."""

    def call(*words: str | Path):
        from peerwatt.cli.main import guarded

        code = 0
        capsys.readouterr()
        try:
            guarded(lambda: run([str(word) for word in words]))
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class")
CHANGING = ("os.mkdir", "os.remove", "os.rename", "os.link", "os.symlink", "os.chmod", "shutil.")
WRITING = 0o3 | 0o100  # O_WRONLY, O_RDWR and O_CREAT


class Watch:
    """Fails if anything is executed, unpickled, connected to or written meanwhile."""

    def __init__(self):
        self.seen: list[str] | None = None
        sys.addaudithook(self._hook)  # stays for good, and sees nothing outside of `with`

    def _hook(self, event, arguments):
        if self.seen is None:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if event.startswith((*FORBIDDEN, *CHANGING, "socket.")) or writes:
            self.seen.append(f"{event} {arguments}")

    def __enter__(self):
        self.seen = []

    def __exit__(self, *_):
        seen, self.seen = self.seen, None
        assert seen == []


@pytest.fixture(scope="session")
def watched():
    return Watch()
