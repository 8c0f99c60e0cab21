from dataclasses import is_dataclass

import numpy as np
import pluggy
import pytest
from slot_batches import MIDDLE, Trade, join, slot

from peerwatt.fairness import Shaping, score_slots
from peerwatt.plugins.specs import PROJECT, Hooks
from peerwatt_critics import hooks

SLOTS = join([slot([1, 1, -2], [Trade(0, 2, 1, MIDDLE)]), slot([1, 1, 1])])


@pytest.fixture
def critics():
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    manager.register(hooks)
    manager.check_pending()
    return {spec.name: spec for specs in manager.hook.peerwatt_critics() for spec in specs}


def test_all_register_and_load(critics):
    assert {"none", "rule", "constant", "random", "ensemble", "distilled", "replay"} < set(critics)
    for spec in critics.values():
        assert is_dataclass(spec.load()) and spec.summary


def test_none_abstains(critics):
    scores = critics["none"].load()().score(SLOTS)
    assert all(score.shape == (2,) and np.isnan(score).all() for score in scores)
    roles = SLOTS.surplus > 0, SLOTS.deficit > 0
    assert not Shaping().bonus(scores, *roles, progress=1.0).any()


def test_rule_follows_the_closed_forms(critics):
    scores = critics["rule"].load()().score(SLOTS)
    for score, expected in zip(scores, score_slots(SLOTS), strict=True):
        assert np.array_equal(score, expected, equal_nan=True)
