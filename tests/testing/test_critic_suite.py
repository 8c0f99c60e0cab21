"""The suite of critics: what comes with PeerWatt passes, and each law catches its breach."""

import broken_critics
import pytest

from peerwatt.plugins.loader import registry
from peerwatt.testing import examine, suite

OWN = [n for n, r in registry()["critic"].items() if r.distribution == "peerwatt"]
BROKEN = [(law, says, spec.name) for law, says, spec in broken_critics.REGISTERED]


@pytest.mark.parametrize("name", OWN)
def test_what_comes_with_peerwatt_passes(name):
    findings = list(examine("critic", name))
    assert [finding for finding in findings if not finding.passed] == []
    assert len(findings) == len(suite("critic"))


@pytest.mark.parametrize(("law", "says", "name"), BROKEN, ids=[name for *_, name in BROKEN])
def test_a_law_catches_its_breach_and_no_other(problems, law, says, name):
    found = problems("critic", name)
    assert list(found) == ([law] if law else [])
    if law:
        assert says in found[law]
        assert "\n" not in found[law] and found[law].endswith(".")


def test_every_law_has_its_breach():
    common = {"spec", "options", "listing"}  # see test_algorithm_suite.py and test_frame.py
    laws = {check.name for check in suite("critic")}
    assert {law for law, *_ in BROKEN if law} | common >= laws
