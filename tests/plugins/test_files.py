"""Plugins that are single files: run before they are packaged, told in a sentence when broken."""

import os

import pytest
from distributions import HOOK, Site

from peerwatt.plugins import template

GOOD = HOOK.format(specs="spec('good-trader')")


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_file_runs_in_a_spawned_worker_and_is_recorded_by_its_content(site):
    written = template.write_plugin("good-trader", "algorithm", site.folder)
    words = "--task pilot-v1 --algorithm good-trader --budget 20k --seeds 1 --workers 1"
    file = written.folder / "good_trader.py"
    done = site.peerwatt(
        "run", "--plugin", os.path.relpath(file, site.folder), *words.split(), "--results", "runs"
    )
    assert done.returncode == 0, done.stderr
    results = list((site.folder / "runs").rglob("result.json"))
    assert len(results) == 1
    assert '"distribution":"file:good_trader.py"' in results[0].read_text().replace(" ", "")


def test_a_file_that_wants_a_taken_name_is_had_by_its_full_name(site):
    (site.folder / "usurping.py").write_text(HOOK.format(specs="spec('ippo'), spec('own')"))
    done = site.peerwatt("list", "--plugin", "usurping.py")
    assert done.returncode == 0
    assert "is PeerWatt's own, so this one is to be had as 'file:usurping.py:ippo'" in done.stderr
    assert " file:usurping.py:ippo " in done.stdout


@pytest.mark.parametrize(
    ("name", "source", "sentence"),
    [
        ("json.py", GOOD, "a module 'json' is there already"),
        ("pluggy.py", GOOD, "a module 'pluggy' is there already"),
        ("my-trader.py", GOOD, "must be named like a module, such as my_trader.py"),
        ("trader.txt", GOOD, "must be named like a module, such as my_trader.py"),
        ("trader.py", "import not_there_at_all\n", "it cannot be imported: ModuleNotFoundError"),
        ("trader.py", "def (:\n", "it cannot be imported: SyntaxError"),
        ("trader.py", "raise SystemExit\n", "it cannot be imported: SystemExit"),
        ("trader.py", "\n", "it implements no hook"),
        ("trader.py", GOOD.replace("algorithms", "algoritms"), "did you mean"),
        ("trader.py", HOOK.format(specs=""), "it registers nothing"),
    ],
)
def test_a_broken_file_is_one_sentence_and_exit_code_2(site, name, source, sentence):
    file = site.folder / "files" / name
    file.parent.mkdir()
    file.write_text(source)
    done = site.peerwatt("list", "--plugin", file)
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"peerwatt: plugin file:{name} ") or name in done.stderr
    assert sentence in done.stderr


def test_a_file_that_is_not_there(site):
    done = site.peerwatt("list", "--plugin", "nowhere.py")
    assert done.returncode == 2 and "nowhere.py cannot be read (No such file" in done.stderr
    done = site.peerwatt("list", "--plugin")
    assert done.returncode == 2 and "--plugin needs a file" in done.stderr
