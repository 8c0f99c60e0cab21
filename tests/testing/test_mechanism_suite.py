"""The suite of mechanisms: what comes with PeerWatt passes, and each law catches its breach."""

import builtins
import sys

import broken_mechanisms
import numpy as np
import pytest

from peerwatt.errors import PeerWattError
from peerwatt.market.kernels import double_auction
from peerwatt.market.mechanism import compile_mechanism
from peerwatt.plugins.loader import FILES, load_mechanism, registry
from peerwatt.testing import examine, suite
from peerwatt.testing.books import book, sample
from peerwatt.testing.frame import Violation
from peerwatt.testing.interpreted import Guarded, interpreted, run_python
from peerwatt.testing.mechanism import run_compiled

OWN = [n for n, r in registry()["mechanism"].items() if r.distribution == "peerwatt"]
BROKEN = [(law, says, spec.name) for law, says, spec in broken_mechanisms.REGISTERED]
DECLARED = "is not declared", "it follows from"


@pytest.mark.parametrize("name", OWN)
def test_what_comes_with_peerwatt_passes(name):
    findings = list(examine("mechanism", name))
    assert [f.problem for f in findings if f.problem] == []
    assert all(any(why in f.skipped for why in DECLARED) for f in findings if f.skipped)
    assert len(findings) == len(suite("mechanism"))


@pytest.mark.parametrize("options", [{"theta": 0.0}, {"theta": 0.3}, {"theta": 1.0}])
def test_options_are_examined_too(options):
    assert all(f.problem is None for f in examine("mechanism", "call", options=options))


@pytest.mark.parametrize(("law", "says", "name"), BROKEN, ids=[name for *_, name in BROKEN])
def test_a_law_catches_its_breach_and_no_other(problems, law, says, name):
    # This file imports numba, as a plugin's hook module should not.
    found = problems("mechanism", name, without=("listing",))
    assert list(found) == ([law] if law else [])
    if law:
        assert says in found[law]
        assert found[law].count(f"{name!r}: ") == 1
        assert "\n" not in found[law]
        assert found[law].endswith(".")
        assert len(found[law]) < 800


def test_every_law_has_its_breach():
    common = {"spec", "options", "listing"}  # see test_algorithm_suite.py and test_frame.py
    laws = {check.name for check in suite("mechanism")}
    assert {law for law, *_ in BROKEN if law} | common == laws


RULE = """
from dataclasses import dataclass
from stale_number import NUMBER
from peerwatt.plugins import MechanismSpec, hookimpl
from peerwatt_mechanisms.call import CallAuction

@hookimpl
def peerwatt_mechanisms():
    return [MechanismSpec(name="stale", factory="stale_rule:Stale", summary="x")]

@dataclass(frozen=True)
class Stale(CallAuction):
    @staticmethod
    def clear(order, level, ticks, arrival, parameters, traded, payment, scratch):
        traded[:] = 0
        payment[:] = 0
        none = traded.sum()
        return none + NUMBER, none, none
"""


def test_what_numba_keeps_on_disk_does_not_count(tmp_path, monkeypatch):
    """numba does not notice that a constant changed in another file: only what is run counts."""
    file = tmp_path / "stale_rule.py"
    file.write_text(RULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(FILES, str(file))

    def write(number):
        for module in ("stale_rule", "stale_number"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / "stale_number.py").write_text(f"NUMBER = {number}  {'#' * number}\n")
        registry.cache_clear()

    def returned():
        rule = compile_mechanism(load_mechanism("stale"))
        return run_compiled(rule, book([5, -5], [0, 1], [10, 20])).moments

    write(0)
    assert returned() == (0, 0, 0)
    write(1)
    assert returned() == (0, 0, 0)  # what numba kept
    write(1)
    found = {f.check.name: f for f in examine("mechanism", "stale")}
    assert found["compiled"].passed
    assert "the volume returned is 1" in found["moments"].problem
    registry.cache_clear()


def test_counterexamples_are_small(problems):
    found = problems("mechanism", "costsmorethanretail", without=("listing",))
    assert "(book: order [" in found["individually-rational"]
    orders = found["individually-rational"].partition("order [")[2].partition("]")[0]
    assert sorted(map(int, orders.split(","))) == [-1, 1]


def test_books_are_crowded_and_always_the_same():
    first = sample((7, (3, 5, 21, 64)))
    two_sided = [(b.order > 0).any() and (b.order < 0).any() for b in first]
    assert np.mean(two_sided) > 0.6
    sample.cache_clear()
    again = sample((7, (3, 5, 21, 64)))
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))


# ------------------------------------------------------------------ guarded arrays


@pytest.fixture
def guarded():
    array = np.arange(5).view(Guarded)
    array.label = "level"
    return array


@pytest.mark.parametrize(
    "key",
    [5, -1, np.uint64(7), np.int64(-5), slice(0, 6), slice(-2, None), [0, 5], np.array([-1]), (9,)],
    ids=str,
)
def test_an_index_outside_is_told(guarded, key):
    with pytest.raises(Violation, match=r"clear uses level\["):
        guarded[key]
    with pytest.raises(Violation, match=r"clear uses level\["):
        guarded[key] = 1


@pytest.mark.parametrize(
    "key", [0, 4, np.uint64(4), slice(None), slice(5, 5), slice(None, None, -1), [0, 4], ...]
)
def test_an_index_inside_is_that_of_numpy(guarded, key):
    assert np.array_equal(guarded[key], np.arange(5)[key])


@pytest.mark.parametrize("reduce", ["sum", "min", "max", "argmax", "prod", "mean"])
def test_a_reduction_is_a_number(guarded, reduce):
    for result in (getattr(guarded, reduce)(), getattr(np, reduce)(guarded)):
        assert np.isscalar(result)
    assert isinstance(guarded * 2, Guarded)


def test_a_view_of_a_part_is_guarded_too(guarded):
    part = guarded[1:3]
    assert part[1] == 2
    with pytest.raises(Violation, match=r"clear uses level\[2\], but there are 2 elements"):
        part[2]
    assert guarded[guarded > 2].tolist() == [3, 4]


def test_compiled_functions_are_interpreted_wherever_they_are():
    """`double_auction` calls a kernel of another name, with what only numba can run."""
    run = interpreted(double_auction.py_func)
    result = run_python(run, (), book([-5, 3], [4, 1], [10, 20, 30, 40, 50]))
    assert result.traded.tolist() == [-3, 3]
    assert result.payment.tolist() == [-150, 150]
    assert result.moments == (3, 150, 7500)


def test_a_missing_hypothesis_is_told_with_the_mend(monkeypatch):
    real = builtins.__import__

    def absent(name, *arguments, **named):
        if name.partition(".")[0] == "hypothesis":
            raise ModuleNotFoundError("No module named 'hypothesis'", name="hypothesis")
        return real(name, *arguments, **named)

    for module in ("mechanism", "books", "interpreted"):
        monkeypatch.delitem(sys.modules, f"peerwatt.testing.{module}")
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(PeerWattError, match=r"'hypothesis': pip install 'peerwatt\[testing\]'"):
        suite("mechanism")
