"""The optimum: hand-worked cases, exactness of aggregation, and that nobody beats it."""

import dataclasses

import numpy as np
import pytest

from peerwatt.community import Community
from peerwatt.community.task import EFFICIENCY_ONE
from peerwatt.evaluation.oracle import oracle_cost


def community(capacity, power, efficiency, feed_in=8):
    n = len(capacity)
    zeros = np.zeros(n, np.int64)
    return Community(
        groups=("home",) * n,
        homes=tuple(map(str, range(n))),
        load=np.zeros((1, n), np.int32),
        pv=np.zeros((1, n), np.int32),
        capacity=np.array(capacity, np.int64),
        power=np.array(power, np.int64),
        efficiency=np.array([round(e * EFFICIENCY_ONE) for e in efficiency], np.int64),
        lowest=zeros,
        highest=np.array(capacity, np.int64),
        feed_in=feed_in,
        retail=np.array([20], np.int64),
        sunny=np.zeros(1, np.int8),
        weekday=np.zeros(1, np.int8),
    )


def cost(c, net_load, retail):
    return oracle_cost(c, np.array([net_load]), np.array([retail]))[0]


def test_without_storage_the_community_nets_each_slot():
    none = community([0, 0], [0, 0], [1, 1])
    assert cost(none, [100, -50], [20, 20]) == pytest.approx(100 * 20 - 50 * 8)


def test_lossless_battery_moves_surplus_to_the_evening():
    one = community([60], [1000], [1.0])
    # 60 of the 100 surplus are kept for the evening, 40 are exported.
    assert cost(one, [-100, 100], [20, 20]) == pytest.approx(-40 * 8 + 40 * 20)


def test_losses_power_and_price_difference_limit_arbitrage():
    battery = community([1000], [100], [0.8])
    # Buy 100 at 10, keep 80, deliver 64 at 30: 100 * 10 + (100 - 64) * 30.
    assert cost(battery, [0, 100], [10, 30]) == pytest.approx(2080, rel=1e-4)
    # At 10 and 12 the losses cost more than the difference: no arbitrage.
    assert cost(battery, [0, 100], [10, 12]) == pytest.approx(1200)


def test_identical_batteries_act_as_one_larger_battery():
    rng = np.random.default_rng(0)
    net_load, retail = rng.integers(-500, 500, 24), rng.choice([12, 20, 40], 24)
    together = community([300] * 3, [100] * 3, [0.9] * 3)
    apart = community([300, 300, 300], [100, 100, 100], [0.9, 0.9 + 1e-4, 0.9 - 1e-4])
    assert len(np.unique(apart.efficiency)) == 3, "these are solved one by one"
    assert cost(together, net_load, retail) == pytest.approx(
        cost(apart, net_load, retail), rel=1e-4
    )
    bigger = dataclasses.replace(together, capacity=together.capacity * 2)
    bigger = dataclasses.replace(bigger, highest=bigger.capacity)
    assert cost(bigger, net_load, retail) < cost(together, net_load, retail)
