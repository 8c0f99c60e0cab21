"""The tasks that come with PeerWatt."""

from collections.abc import Iterable

from peerwatt.plugins import TaskSpec, hookimpl


@hookimpl
def peerwatt_tasks() -> Iterable[TaskSpec]:
    """Return one spec per card."""
    return [
        TaskSpec(
            name="pilot-v1",
            factory="peerwatt_tasks.load:pilot_v1",
            summary="8 simulated homes, no storage, flat tariff: matching and the split of money.",
        ),
        TaskSpec(
            name="fontana-v1",
            factory="peerwatt_tasks.load:fontana_v1",
            summary="15 real homes, a third with PV + battery, time-of-use tariff.",
        ),
    ]
