"""The pytest plugin, as an author meets it: one test of each law, and sentences for failures."""

import pytest

import peerwatt.testing.critic  # noqa: F401  pytester forgets what is first imported in its runs
from peerwatt.plugins.loader import FILES, registry
from peerwatt.testing import suite

pytest_plugins = ["pytester"]

AUTHORS_FILE = """
import pytest

@pytest.mark.peerwatt("{kind}", "{name}"{more})
def test_conformance(peerwatt_check):
    peerwatt_check()
"""
CRITIC = """
from dataclasses import dataclass
from peerwatt.plugins import CriticSpec, hookimpl

@hookimpl
def peerwatt_critics():
    return [CriticSpec(name="mine", factory="my_critic:Mine", summary="x", deterministic=False)]

@dataclass(frozen=True)
class Mine:
    value: float = 2.0

    def score(self, slots):
        from peerwatt.fairness import score_slots
        return score_slots(slots)._replace(ftg=slots.feed_in * 0 + self.value)
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Return a function that runs pytest on an author's test file."""
    monkeypatch.setenv(FILES, "")
    registry.cache_clear()

    def author(*words, kind="critic", name="rule", more=""):
        pytester.makepyfile(AUTHORS_FILE.format(kind=kind, name=name, more=more))
        # Named here, so that it works in a tree that was not installed anew.
        plugin = ("-p", "no:peerwatt", "-p", "peerwatt.testing.pytest_plugin")
        return pytester.runpytest_inprocess(*plugin, "--strict-markers", *words)

    yield author
    registry.cache_clear()


def test_one_test_of_each_law(run):
    result = run("-v")
    skipped = {"usage", "closing", "resumed"}  # laws of critics that are opened
    result.assert_outcomes(passed=len(suite("critic")) - len(skipped), skipped=len(skipped))
    result.stdout.fnmatch_lines(
        [
            f"*::test_conformance[[]{name}[]] {'SKIPPED' if name in skipped else 'PASSED'}*"
            for name in (check.name for check in suite("critic"))
        ]
    )


def test_a_failure_is_one_sentence_and_what_does_not_apply_is_skipped(run, pytester):
    pytester.makepyfile(my_critic=CRITIC)
    result = run("-rs", name="mine", more=', plugin_file="my_critic.py"')
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 3  # range, undefined, hostile
    # A file's listing, four laws of deterministic critics, three of opened ones.
    assert outcomes["skipped"] == 8
    result.stdout.fnmatch_lines(
        [
            "critic 'mine': ftg is 2 in slots of 2 households without storage: scores lie in *",
            "SKIPPED*it is registered with deterministic=False",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*frame.py*")


def test_options_and_budget_are_arguments_of_the_marker(run, pytester):
    pytester.makepyfile(my_critic=CRITIC)
    more = ', options={"value": 1.0}, budget=100, plugin_file="my_critic.py"'
    result = run("-k", "range", name="mine", more=more)
    result.assert_outcomes(passed=1, deselected=len(suite("critic")) - 1)


@pytest.mark.parametrize(
    ("author", "says"),
    [
        ({"name": "rul"}, "*unknown critic 'rul': did you mean 'rule'*"),
        ({"kind": "critics"}, "*there is no suite for 'critics': expected one of task, algorithm*"),
        ({"more": ", option={}"}, "*wrong marker (*unexpected keyword argument 'option')*"),
        ({"more": ', plugin_file="absent.py"'}, "*absent.py cannot be read*"),
    ],
)
def test_mistakes_are_told_in_a_sentence(run, author, says):
    result = run("-k", "spec", **author)
    assert result.ret != 0
    result.stdout.fnmatch_lines([says])


def test_the_fixture_needs_its_marker(pytester):
    pytester.makepyfile("def test_it(peerwatt_check): pass")
    plugin = ("-p", "no:peerwatt", "-p", "peerwatt.testing.pytest_plugin")
    result = pytester.runpytest_inprocess(*plugin)
    result.stdout.fnmatch_lines(["*needs the marker @pytest.mark.peerwatt(kind, name)*"])


def test_the_marker_is_listed(run):
    run("--markers").stdout.fnmatch_lines(["@pytest.mark.peerwatt(kind, name, options=None,*"])
