"""An algorithm that plays on and on, and needs no torch for it."""

from dataclasses import dataclass

from peerwatt.plugins import AlgorithmSpec, hookimpl


@hookimpl
def peerwatt_algorithms():
    return [
        AlgorithmSpec(
            name="endless", factory="endless:Endless", policy="endless:Policy", summary="Plays on."
        )
    ]


@dataclass(frozen=True)
class Endless:
    def train(self, run):
        market = run.envs(1)
        market.reset()
        while True:
            for _ in range(100):
                shape = (1, market.num_agents, 3)
                market.step(run.generator.integers(0, market.action_nvec, shape))
            run.report(Policy(), episodes=1)


class Policy:
    """None is ever asked to act."""
