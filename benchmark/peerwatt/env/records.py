"""From the kernel's integer records to what critics and metrics read, in kWh and money."""

from __future__ import annotations

import numpy as np

from peerwatt.community import Task
from peerwatt.env.kernel import Slot
from peerwatt.fairness.critic import SlotBatch
from peerwatt.market.clearing import Ints
from peerwatt.market.units import QUANTA_PER_KWH


def slot_batch(task: Task, ticks: Ints, slot: Slot) -> SlotBatch:
    """Convert M recorded slots.

    Args:
        task: the task that was played.
        ticks: [P * K] price grids of the task (`Tables.ticks`).
        slot: records with M = `slot.tariff.size` slots of N households each.
    """
    n = task.community.size
    levels = task.card.market.price_levels
    kwh = 1.0 / QUANTA_PER_KWH
    rows = slot.tariff.reshape(-1)
    grids = ticks.reshape(-1, levels)[rows].astype(np.float64) * task.card.tariff.tick
    feed_in = grids[:, 0]
    position = slot.position.reshape(-1, n) * kwh
    order = slot.order.reshape(-1, n) * kwh
    traded = slot.traded.reshape(-1, n) * kwh
    payment = slot.payment.reshape(-1, n) * task.money_unit
    moments = slot.moments.reshape(-1, 3)
    # Centred on the feed-in tariff and in floats: quanta x ticks^2 x quanta would overflow.
    offset = np.rint(feed_in / task.card.tariff.tick)
    quanta = np.where(moments[:, 0] > 0, moments[:, 0], np.nan)
    mean = moments[:, 1] / quanta - offset
    square = (moments[:, 2] - 2 * offset * moments[:, 1]) / quanta + offset * offset
    deviation = np.sqrt(np.maximum(square - mean * mean, 0.0))
    return SlotBatch(
        feed_in=feed_in,
        retail=grids[:, -1],
        reference=grids[:, levels // 2],
        surplus=np.maximum(position, 0.0),
        deficit=np.maximum(-position, 0.0),
        offered=np.maximum(order, 0.0),
        demanded=np.maximum(-order, 0.0),
        sold=np.maximum(traded, 0.0),
        bought=np.maximum(-traded, 0.0),
        received=np.maximum(payment, 0.0),
        paid=np.maximum(-payment, 0.0),
        volume=moments[:, 0].astype(np.float64) * kwh,
        mean_price=feed_in + mean * task.card.tariff.tick,
        price_deviation=deviation * task.card.tariff.tick,
    )
