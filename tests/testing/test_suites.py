"""The suites of critics, tasks and sinks: what comes with PeerWatt passes, and each law catches
its breach. Algorithms and mechanisms have more to them, and files of their own."""

import broken_critics
import broken_sinks
import broken_tasks
import pytest

from peerwatt.plugins.loader import registry
from peerwatt.testing import examine, suite

MODULES = {"critic": broken_critics, "task": broken_tasks, "sink": broken_sinks}
OWN = [
    (kind, name)
    for kind in MODULES
    for name, plugin in registry()[kind].items()
    if plugin.distribution == "peerwatt"
]
BROKEN = [
    pytest.param(kind, law, says, spec.name, id=spec.name)
    for kind, module in MODULES.items()
    for law, says, spec in module.REGISTERED
]
COMMON = {"spec", "options", "listing"}  # see test_algorithm_suite.py and test_frame.py
SLOW = {"content-hash"}  # another process for each task; left out where it is not the law broken


def allowed_to_skip(kind, spec):
    """Laws of critics that do not concern each of them."""
    if kind != "critic":
        return set()
    if spec.asks:
        return {check.name for check in suite(kind)} - COMMON
    opened = hasattr(spec.load(), "open")
    return (set() if opened else {"usage", "closing", "resumed"}) | (
        set() if spec.deterministic else {"slot-order", "households", "one-by-one"}
    )


@pytest.mark.parametrize(("kind", "name"), OWN)
def test_what_comes_with_peerwatt_passes(kind, name):
    findings = list(examine(kind, name))
    assert [finding.problem for finding in findings if finding.problem] == []
    assert len(findings) == len(suite(kind))
    skipped = {finding.check.name: finding.skipped for finding in findings if finding.skipped}
    assert skipped.keys() <= allowed_to_skip(kind, registry()[kind][name].spec), skipped


@pytest.mark.parametrize(("kind", "law", "says", "name"), BROKEN)
def test_a_law_catches_its_breach_and_no_other(
    problems, kind, law, says, name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # one of them litters
    found = problems(kind, name, without=SLOW - {law} if law else ())
    assert list(found) == ([law] if law else [])
    if law:
        assert says in found[law]
        assert "\n" not in found[law] and found[law].endswith(".")


def test_a_critic_that_asks_is_examined_once_it_is_told_whom(plugin_file):
    plugin_file("broken_critics.py")
    findings = [f for f in examine("critic", "wantsamodel") if f.check.name not in COMMON]
    says = "it asks others: give the options that say whom, as in --critic.model NAME"
    reasons = {finding.skipped for finding in findings}
    assert reasons == {says, "it is registered with deterministic=False"}
    named = examine("critic", "wantsamodel", options={"model": "x"})
    (problem,) = [finding.problem for finding in named if finding.problem]
    assert problem.startswith("critic 'wantsamodel': ValueError: no model at broken_critics.py:")


@pytest.mark.parametrize("kind", MODULES)
def test_every_law_has_its_breach(kind):
    laws = {check.name for check in suite(kind)}
    assert {law for law, *_ in MODULES[kind].REGISTERED if law} | COMMON >= laws
