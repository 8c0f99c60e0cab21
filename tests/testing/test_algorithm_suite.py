"""The suite of algorithms: what comes with PeerWatt passes, and each law catches its breach."""

import broken_algorithms
import pytest

from peerwatt.plugins.loader import registry
from peerwatt.testing import examine, suite

OWN = [n for n, r in registry()["algorithm"].items() if r.distribution == "peerwatt"]
BROKEN = [(law, says, spec.name) for law, says, spec in broken_algorithms.REGISTERED]


@pytest.mark.parametrize("name", OWN)
def test_what_comes_with_peerwatt_passes(name):
    findings = list(examine("algorithm", name))
    assert [finding.problem for finding in findings if finding.problem] == []
    assert len(findings) == len(suite("algorithm"))


@pytest.mark.parametrize(("law", "says", "name"), BROKEN, ids=[name for *_, name in BROKEN])
def test_a_law_catches_its_breach_and_no_other(problems, law, says, name):
    slow = {"processes"} - {law} if law else ()
    found = problems("algorithm", name, without=slow)
    assert list(found) == ([law] if law else [])
    if law:
        assert says in found[law]
        assert found[law].count(repr(name)) == 1
        assert "\n" not in found[law] and found[law].endswith(".")


def test_every_law_has_its_breach():
    common = {"listing"}  # see test_frame.py
    laws = {check.name for check in suite("algorithm")}
    assert {law for law, *_ in BROKEN if law} | common == laws
