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
SLOW = {"content-hash"}  # another process for each task; left out where it is not the law broken


@pytest.mark.parametrize(("kind", "name"), OWN)
def test_what_comes_with_peerwatt_passes(kind, name):
    findings = list(examine(kind, name))
    assert [finding for finding in findings if not finding.passed] == []
    assert len(findings) == len(suite(kind))


@pytest.mark.parametrize(("kind", "law", "says", "name"), BROKEN)
def test_a_law_catches_its_breach_and_no_other(problems, kind, law, says, name):
    found = problems(kind, name, without=SLOW - {law} if law else ())
    assert list(found) == ([law] if law else [])
    if law:
        assert says in found[law]
        assert "\n" not in found[law] and found[law].endswith(".")


@pytest.mark.parametrize("kind", MODULES)
def test_every_law_has_its_breach(kind):
    common = {"spec", "options", "listing"}  # see test_algorithm_suite.py and test_frame.py
    laws = {check.name for check in suite(kind)}
    assert {law for law, *_ in MODULES[kind].REGISTERED if law} | common >= laws
