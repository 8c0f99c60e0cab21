"""A stranger's mechanism runs in the fused kernel, and cannot spoil what is around it."""

import dataclasses
import pickle
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
from numba import njit

from peerwatt import VectorMarket, load_task
from peerwatt.errors import PeerWattError
from peerwatt.market import compile_mechanism
from peerwatt.market.kernels import double_auction
from peerwatt.plugins.loader import load_mechanism


def mechanism(clear, parameters=()):
    @dataclasses.dataclass(frozen=True)
    class Stranger:
        properties: ClassVar = frozenset()

        def parameters(self):
            return parameters

    Stranger.clear = staticmethod(clear)
    return Stranger()


def nothing(order, level, ticks, arrival, parameters, traded, payment, scratch):
    traded[:] = 0
    payment[:] = 0
    return 0, 0, 0


def too_much(order, level, ticks, arrival, parameters, traded, payment, scratch):
    payment[:] = 0
    traded[:] = 2 * order
    return 0, 0, 0


def from_nowhere(order, level, ticks, arrival, parameters, traded, payment, scratch):
    payment[:] = 0
    volume = 0
    for i in range(order.size):
        traded[i] = max(order[i], 0)
        volume += traded[i]
    return volume, 0, 0


def boasts(order, level, ticks, arrival, parameters, traded, payment, scratch):
    traded[:] = 0
    payment[:] = 0
    return 5, 5, 5


def flatters(order, level, ticks, arrival, parameters, traded, payment, scratch):
    """Nobody is paid, and everybody is told to have traded at the middle."""
    left = min(order[order > 0].sum(), -order[order < 0].sum())
    volume = left
    for sign in (1, -1):
        rest = left
        for i in range(order.size):
            if sign * order[i] >= 0:
                q = min(sign * order[i], rest)
                rest -= q
                traded[i] = sign * q
                payment[i] = 0
    return volume, volume * ticks[ticks.size // 2], volume * ticks[ticks.size // 2] ** 2


def adds_up(order, level, ticks, arrival, parameters, traded, payment, scratch):
    parameters[0] += 1
    return nothing(order, level, ticks, arrival, parameters, traded, payment, scratch)


def raises(order, level, ticks, arrival, parameters, traded, payment, scratch):
    traded[:] = 0
    payment[:] = 0
    if order.min() < 0:
        raise ValueError("no bids, please")
    return 0, 0, 0


def rewrites_orders(order, level, ticks, arrival, parameters, traded, payment, scratch):
    order[0] = 0
    return 0, 0, 0


def returns_floats(order, level, ticks, arrival, parameters, traded, payment, scratch):
    return 0.5, 0, 0


def unknown_name(order, level, ticks, arrival, parameters, traded, payment, scratch):
    return no_such_function(order), 0, 0  # noqa: F821


def too_few(order, level):
    return 0, 0, 0


def play(rule, slots=24):
    market = VectorMarket(load_task("pilot-v1"), 4, seed=5, mechanism=rule)
    market.reset()
    generator = np.random.default_rng(0)
    return [market.step(generator.integers(0, market.action_nvec, (4, 8, 3))) for _ in range(slots)]


def test_the_inlined_double_auction_and_the_one_called_by_its_address_are_the_same():
    inlined = compile_mechanism(load_mechanism("cda"))
    called = compile_mechanism(mechanism(double_auction.py_func))
    assert inlined.address == 0 != called.address
    for one, other in ((inlined, called), (called, inlined)):
        first = VectorMarket(load_task("fontana-v1"), 8, seed=5, mechanism=one)
        second = VectorMarket(load_task("fontana-v1"), 8, seed=5, mechanism=other)
        assert (first.reset() == second.reset()).all()
        generator = np.random.default_rng(0)
        for _ in range(60):
            actions = generator.integers(0, first.action_nvec, (8, 15, 3))
            a, b = first.step(actions), second.step(actions)
            assert a.reward.tobytes() == b.reward.tobytes()
            assert a.observation.tobytes() == b.observation.tobytes()
            assert all((x == y).all() for x, y in zip(a.slot, b.slot, strict=True))


@pytest.mark.parametrize("rule", [too_much, from_nowhere, boasts, flatters])
def test_energy_from_nowhere_is_refused_in_the_kernel(rule):
    market = VectorMarket(load_task("pilot-v1"), 4, seed=5, mechanism=mechanism(rule))
    market.reset()
    actions = np.tile([10, 2, 0], (4, 8, 1))
    with pytest.raises(PeerWattError, match="mechanism 'Stranger' let a household trade more"):
        for _ in range(48):
            market.step(actions)
    with pytest.raises(PeerWattError, match="call reset"):
        market.step(actions)


def test_an_exception_in_a_mechanism_is_told_and_the_market_wants_a_reset():
    market = VectorMarket(load_task("pilot-v1"), 4, seed=5, mechanism=mechanism(raises))
    market.reset()
    with pytest.raises(PeerWattError, match=r"mechanism 'Stranger' fails.*no bids, please"):
        market.step(np.tile([10, 2, 0], (4, 8, 1)))
    with pytest.raises(PeerWattError, match="call reset"):
        market.step(np.tile([10, 2, 0], (4, 8, 1)))


@pytest.mark.parametrize(
    ("clear", "says"),
    [
        (rewrites_orders, "cannot compile.*[Rr]ead-?only|cannot compile.*readonly|modify"),
        (adds_up, "cannot compile"),
        (returns_floats, "expected three int64"),
        (too_few, "must take"),
        (unknown_name, "cannot compile"),
    ],
    ids=["rewrites orders", "rewrites parameters", "floats", "too few arguments", "unknown name"],
)
def test_what_cannot_be_a_mechanism_is_told_before_anything_runs(clear, says):
    with pytest.raises(PeerWattError, match=says):
        compile_mechanism(mechanism(clear))


def test_a_mechanism_must_be_static_and_declare_known_properties():
    stranger = type(mechanism(nothing))
    stranger.clear = nothing
    with pytest.raises(PeerWattError, match="staticmethod"):
        compile_mechanism(stranger())
    stranger = mechanism(nothing)
    type(stranger).properties = frozenset({"fair"})
    with pytest.raises(PeerWattError, match="properties must be a frozenset of"):
        compile_mechanism(stranger)
    with pytest.raises(PeerWattError, match="tuple of numbers"):
        compile_mechanism(mechanism(nothing, parameters=("a",)))


def test_flags_of_a_stranger_are_not_taken_over():
    compiled = compile_mechanism(mechanism(njit(parallel=True, fastmath=True)(nothing)))
    assert not compiled.function.targetoptions.get("parallel")
    assert all((step.slot.traded == 0).all() for step in play(compiled, 4))


HELPED = """
import helping
from helping import fee

def clear(order, level, ticks, arrival, parameters, traded, payment, scratch):
    traded[:] = 0
    payment[:] = 0
    scratch[0] = {fee}(7)
    return 0, 0, 0
"""
REPORT = """
import sys
sys.path.insert(0, sys.argv[1])
import dataclasses, numpy as np, helped
from peerwatt.market import clear, compile_mechanism
from typing import ClassVar

@dataclasses.dataclass(frozen=True)
class Helped:
    properties: ClassVar = frozenset()
    clear = staticmethod(helped.clear)
    def parameters(self):
        return ()

arrays = [np.array([[1, -1]]), np.array([[0, 1]]), np.array([[8, 30]]), np.array([[0, 1]])]
rule = compile_mechanism(Helped())
scratch = np.zeros(300, np.int64)
rule.function(*(a[0] for a in arrays), np.zeros(0), np.zeros(2, int), np.zeros(2, int), scratch)
print(scratch[0])
"""


@pytest.mark.parametrize("fee", ["fee", "helping.fee"])
def test_an_edited_helper_of_a_stranger_is_never_stale(tmp_path, fee):
    (tmp_path / "helped.py").write_text(HELPED.format(fee=fee))
    told = []
    for factor in (1, 100):
        helper = f"from numba import njit\n\n@njit\ndef fee(q):\n    return q * {factor}\n"
        (tmp_path / "helping.py").write_text(helper)
        words = [sys.executable, "-c", REPORT, str(tmp_path)]
        told.append(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert told == ["7\n", "700\n"]


def test_a_pickled_mechanism_is_compiled_where_it_arrives():
    call = compile_mechanism(load_mechanism("call", {"theta": 0.25}), "call")
    text = pickle.dumps(call)
    assert str(call.address).encode() not in text
    again = pickle.loads(text)
    assert again.name == "call" and again.parameters.tolist() == [0.25]


def test_a_card_names_its_mechanism_with_options(tmp_path):
    from peerwatt.runs.config import RunConfig, resolve

    records = []
    cards = load_task("pilot-v1").card
    assert cards.market.mechanism == "cda"
    for options in ({}, {"theta": 0.5}, {"theta": 0.25}):
        config = RunConfig(
            task="pilot-v1",
            algorithm="zi-c",
            mechanism="call",
            mechanism_options=tuple(options.items()),
        )
        records.append(resolve(config))
    assert records[0].config_hash == records[1].config_hash != records[2].config_hash
    assert records[2].mechanism_record.options == {"theta": 0.25}
