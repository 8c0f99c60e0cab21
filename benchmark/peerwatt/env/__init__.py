"""The market environment: batched arrays, with PettingZoo and Gymnasium views over them."""

from peerwatt.env.kernel import BATTERY_ACTIONS, OBSERVATION_NAMES, Slot
from peerwatt.env.scenarios import Scenarios, evaluation_scenarios
from peerwatt.env.vector import Step, VectorMarket

__all__ = [
    "BATTERY_ACTIONS",
    "OBSERVATION_NAMES",
    "Scenarios",
    "Slot",
    "Step",
    "VectorMarket",
    "evaluation_scenarios",
]
