"""Reads a market back from the text of a prompt, so that a fake server can answer as the rule does.

A market of the view "households" is `{"supply", "demand", "traded", "price", "spread",
"reference", "sellers", "buyers"}`, all in percent, with rows `[share, quoted, traded, price]`; of
the view "summary" it is `{"traded", "uneven", "off", "bought", "price"}`. Several
markets come as `{"m1": {...}, "m2": {...}}`.
"""

import json
import math
import re

import numpy as np

from peerwatt.fairness import SlotBatch, score_slots
from peerwatt.fairness.scores import HOUSEHOLD_FIELDS

SCORES = ("ftg", "fbs", "fpp", "ftb")


def markets(text):
    """The last markets in `text`, a canonical slot or message: name -> market, "" if there is one.

    Text may stand before them, as where a protocol joins all messages, and after them.
    """
    start = [match.start() for match in re.finditer(r'(?<!:)\{"(m1|supply|traded)":', text)][-1]
    content, _ = json.JSONDecoder().raw_decode(text, start)
    return content if "m1" in content else {"": content}


def decode(text):
    """The slots of a canonical slot or of a user's message, with feed-in 0 and retail 1."""
    slots = [_slot(market) for market in markets(text).values()]
    most = max(len(slot.surplus) for slot in slots)
    fields = {}
    for name in SlotBatch._fields:
        values = [getattr(slot, name) for slot in slots]
        if name in HOUSEHOLD_FIELDS:
            values = [np.pad(value, (0, most - len(value))) for value in values]
        fields[name] = np.array(values, dtype=float)
    return SlotBatch(**fields)


def rule_reply(messages, scale):
    """The reply that the rule critic would give to the last message, as JSON text."""
    asked = messages[-1]["content"]
    shown = [message["content"] for message in messages if message["role"] == "assistant"]
    scores = np.nan_to_num(np.array(score_slots(decode(asked))))
    replies = {}
    for name, values in zip(markets(asked), scores.T, strict=True):
        reply = {"rationale": "as the formulas say"} if shown and "rationale" in shown[0] else {}
        replies[name] = reply | {
            score: round(float(value) * scale) for score, value in zip(SCORES, values, strict=True)
        }
    return json.dumps(replies.get("", replies), separators=(",", ":"))


def _slot(market):
    return _summarised(market) if "uneven" in market else _of_households(market)


def _rows(side):
    rows = list(side.values()) if isinstance(side, dict) else side
    return np.array(rows, dtype=float).reshape(-1, 4).T / 100  # null becomes NaN


def _of_households(market):
    share, offered, sold, _ = sellers = _rows(market["sellers"])
    need, demanded, bought, _ = buyers = _rows(market["buyers"])
    surplus = share / share.sum() * market["supply"] / 100
    deficit = need / need.sum() * market["demand"] / 100
    no_sales, no_purchases = np.zeros(len(share)), np.zeros(len(need))
    return SlotBatch(
        feed_in=0.0,
        retail=1.0,
        reference=market["reference"] / 100,
        surplus=np.append(surplus, no_purchases),
        deficit=np.append(no_sales, deficit),
        offered=np.append(surplus * offered, no_purchases),
        demanded=np.append(no_sales, deficit * demanded),
        sold=np.append(surplus * sold, no_purchases),
        bought=np.append(no_sales, deficit * bought),
        received=np.append(surplus * sold * np.nan_to_num(sellers[3]), no_purchases),
        paid=np.append(no_sales, deficit * bought * np.nan_to_num(buyers[3])),
        volume=market["traded"] / 100 * min(market["supply"], market["demand"]) / 100,
        mean_price=_part(market["price"]),
        price_deviation=_part(market["spread"]),
    )


def _summarised(market):
    """Sellers of the variation that is told, one buyer, and a price that is as far off."""
    fill = market["bought"] / 100
    # What was traded may have been rounded to nothing.
    traded = 0.0 if market["off"] is None else max(market["traded"] / 100, 1e-6)
    variation = market["uneven"]
    if variation is None:  # fewer than two sellers, or nothing sold
        fills = np.zeros(2 if traded == 0 else 1)
    else:
        count = max(2, math.ceil((variation / 100) ** 2) + 1)
        gap = variation / 100 / math.sqrt(count - 1)
        fills = np.array([1 + gap * (count - 1), *[1 - gap] * (count - 1)]) / count
    zeros = np.zeros(len(fills))
    return SlotBatch(
        feed_in=0.0,
        retail=1.0,
        reference=0.5,
        surplus=np.append(zeros + 1, 0.0),
        deficit=np.append(zeros, 1.0),
        offered=np.append(zeros + 1, 0.0),
        demanded=np.append(zeros, 1.0),
        sold=np.append(fills, 0.0),
        bought=np.append(zeros, fill),
        received=np.append(fills / 2, 0.0),
        paid=np.append(zeros, fill * np.nan_to_num(_part(market["price"]))),
        volume=traded,
        mean_price=0.5 + _part(market["off"]) / 2,
        price_deviation=0.0,
    )


def _part(percent):
    return math.nan if percent is None else percent / 100
