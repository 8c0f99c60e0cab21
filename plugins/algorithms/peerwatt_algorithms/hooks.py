"""The algorithms that come with PeerWatt."""

from collections.abc import Iterable

from peerwatt.plugins import AlgorithmSpec, hookimpl


def _scripted(name: str, factory: str, summary: str) -> AlgorithmSpec:
    path = f"peerwatt_algorithms.{factory}"
    return AlgorithmSpec(name=name, factory=path, policy=path, summary=summary, trainable=False)


@hookimpl
def peerwatt_algorithms() -> Iterable[AlgorithmSpec]:
    """Return the scripted traders and the learners."""
    return [
        _scripted("grid-only", "grid_only:GridOnly", "Never trades, leaves the battery idle."),
        _scripted("zi-c", "zi_c:ZeroIntelligence", "Quotes at random within its limit."),
        _scripted("mid-quote", "mid_quote:MidQuote", "Quotes all at the mid-market price."),
        _scripted(
            "self-consumption",
            "self_consumption:SelfConsumption",
            "Battery follows the own net load, the rest is quoted at the mid-market price.",
        ),
        AlgorithmSpec(
            name="ippo",
            factory="peerwatt_algorithms.ippo:IPPO",
            policy="peerwatt_algorithms.ippo:IPPOPolicy",
            summary="Independent PPO: one actor-critic per household, learning alone.",
            requires="peerwatt[train]",
        ),
    ]
