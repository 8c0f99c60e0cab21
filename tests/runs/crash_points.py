"""Kill a run at each of its calls that change the disk, go on, and compare with an undisturbed one.

`python crash_points.py FOLDER EVERY`: at every EVERY-th call. Prints how many there are.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

os.environ["PEERWATT_PLUGIN_FILES"] = str(Path(__file__).with_name("wanderer.py"))

from peerwatt.evaluation import protocol
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute, finished
from peerwatt.runs.store import read_result

CALLS = ("replace", "rename", "fsync", "unlink", "truncate", "rmdir", "mkdir")
calls = 0


def killing(call, at):
    def counted(*arguments, **options):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    return counted


def attempt(run, results, again, at):
    """Execute `run` in a child that dies at call number `at`; return the calls that it made."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        for name in CALLS:
            setattr(os, name, killing(getattr(os, name), at))
        code = 1
        try:
            execute(run, results, again=again, checkpoint_seconds=0)
            code = 0
        finally:
            os.write(writing, str(calls).encode())
            os._exit(code)
    os.close(writing)
    with open(reading) as told:
        made = told.read()
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return int(made or at)


def content(folder):
    names = sorted(path.name for path in folder.iterdir())
    files = {name: (folder / name).read_bytes() for name in names if name.startswith("p")}
    return names, files, (folder / "metrics.jsonl").read_bytes(), read_result(folder).digest()


def main(place, every):
    run = resolve(RunConfig("pilot-v1", "wanderer", critic="rule", budget=10_000, validations=2))
    protocol.oracle_cost = sys.modules["wanderer"].remembering(protocol.oracle_cost)
    plain = execute(run, place / "plain", checkpoint_seconds=0)
    expected = content(plain)
    for again in (False, True):
        most, at, points = 1_000, 1, 0
        while at <= most:
            results = place / f"at-{at}-{again}"
            if again:
                shutil.copytree(place / "plain", results)
            made = attempt(run, results, again, at)
            if made < at:  # it came to its end before
                break
            points += 1
            # Killed once more on the way, and then not.
            attempt(run, results, again, at // 2 + 1)
            folder = execute(run, results, again=False, checkpoint_seconds=0)
            assert finished(run, results)
            assert content(folder) == expected, (at, again)
            left = sorted(path.name for path in folder.parent.iterdir())
            assert left == ["seed-000"], (at, again, left)
            shutil.rmtree(results)
            at += every
        print(points, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
