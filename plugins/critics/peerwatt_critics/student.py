"""A student: a small ensemble of networks that learns a critic's scores as they come in.

What it knows of a slot are ratios and their extremes, which neither the order of the households
nor the units of energy and money change. The networks compute with +, -, x, / and square roots
alone, in one fixed order: the same bits whatever else runs on a machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from peerwatt.fairness.critic import Floats, SlotBatch

Singles = NDArray[np.float32]
Integers = NDArray[np.int64]
Kinds = NDArray[np.int8]

jit = njit(cache=True, error_model="numpy", nogil=True)

SIDE = 13
FEATURES = 9 + 2 * SIDE
"""Numbers by which a student knows a slot: see `describe`."""
SCORES = 4
NONSENSE, UNDEFINED, LONE_SELLER, DEFINED = range(4)
"""Kinds of slots: values that make no sense; no feasible trade; FBS undefined; all defined."""

MEMBERS = 5
"""Networks of a student."""
HIDDEN = 24
"""Units of the hidden layer of a network."""
WIDE = MEMBERS * HIDDEN
WEIGHTS = FEATURES * WIDE + WIDE + SCORES * WIDE + SCORES * MEMBERS
BATCH = 32
"""Labels of a minibatch."""
RATE = 1e-2
"""Step size of Adam; it falls to zero within each lesson, so that lessons end in calm."""
SPARSENESS = 0.1
"""Weight of the norm of what leaves an input: an input that tells nothing fades out."""
NOVELTY = 0.003
"""What a squared deviation from known slots counts, beside the disagreement of the networks."""
FAR = 16.0
"""Largest squared deviation of one input that counts."""
LEAST_DEVIATION = 0.02
"""Deviation of an input below which known slots are taken to differ by chance."""


def describe(slots: SlotBatch, features: Singles, kinds: Kinds) -> None:
    """Fill `features` [M, FEATURES], in [0, 1], and `kinds` [M] of M slots.

    Of the community: the share of the supply in supply and demand; the traded share of either;
    whether there was trade; the reference price; the share of sellers among sellers and buyers; the
    mean price, its distance from the reference price and its deviation. Prices are shares of the
    band between feed-in and retail. Of sellers and of buyers, each: see `_side`.
    """
    arguments: list[Any] = [np.ascontiguousarray(array, dtype=np.float64) for array in slots]
    arguments += [features, kinds]
    _describe(*arguments)


@jit
def _describe(
    feed_in: Floats,
    retail: Floats,
    reference: Floats,
    surplus: Floats,
    deficit: Floats,
    offered: Floats,
    demanded: Floats,
    sold: Floats,
    bought: Floats,
    received: Floats,
    paid: Floats,
    volume: Floats,
    mean_price: Floats,
    deviation: Floats,
    features: Singles,
    kinds: Kinds,
) -> None:
    zero, one = np.float32(0.0), np.float32(1.0)
    for m in range(surplus.shape[0]):
        x = features[m]
        x[:] = zero
        supply = demand = 0.0
        sellers = buyers = 0
        for n in range(surplus.shape[1]):
            supply += surplus[m, n]
            demand += deficit[m, n]
            sellers += surplus[m, n] > 0.0
            buyers += deficit[m, n] > 0.0
        if min(supply, demand) <= 0.0:
            kinds[m] = UNDEFINED
            continue
        band = retail[m] - feed_in[m]
        x[0] = supply / (supply + demand)
        x[1] = volume[m] / supply
        x[2] = volume[m] / demand
        x[4] = (reference[m] - feed_in[m]) / band
        x[5] = sellers / (sellers + buyers)
        if volume[m] > 0.0:
            x[3] = one
            x[6] = (mean_price[m] - feed_in[m]) / band
            x[7] = abs(mean_price[m] - reference[m]) / band
            x[8] = deviation[m] / band
        _side(surplus[m], offered[m], sold[m], received[m], feed_in[m], band, x[9 : 9 + SIDE])
        _side(deficit[m], demanded[m], bought[m], paid[m], feed_in[m], band, x[9 + SIDE :])
        kinds[m] = DEFINED if sellers > 1 else LONE_SELLER
        for i in range(FEATURES):
            if not np.isfinite(x[i]):
                kinds[m] = NONSENSE
            x[i] = min(max(x[i], zero), one)


@jit
def _side(
    need: Floats,
    quoted: Floats,
    filled: Floats,
    money: Floats,
    feed_in: float,
    band: float,
    x: Singles,
) -> None:
    """Describe the households with a need, sellers or buyers, and what share of it was filled.

    Fills: mean, smallest and largest; mean and standard deviation as shares of the largest; the
    share that got nothing. The largest household's part of the need. Prices of those who traded, as
    shares of the band: mean, mean weighted by fill, lowest and highest. The share of the need that
    was quoted, and the reciprocal of the number of households.
    """
    count = served = 0
    total = asked = most = mean = square = high = weighted = prices = dearest = 0.0
    cheapest = low = 1.0
    for n in range(need.size):
        if need[n] <= 0.0:
            continue
        fill = filled[n] / need[n]
        count += 1
        total += need[n]
        asked += quoted[n]
        most = max(most, need[n])
        mean += fill
        square += fill * fill
        low = min(low, fill)
        high = max(high, fill)
        if filled[n] > 0.0:
            price = (money[n] / filled[n] - feed_in) / band
            served += 1
            weighted += fill * price
            prices += price
            cheapest = min(cheapest, price)
            dearest = max(dearest, price)
    if served:
        x[7] = prices / served
        x[8] = weighted / mean
        x[9] = cheapest
        x[10] = dearest
    mean /= count
    x[0] = mean
    x[1] = low
    x[2] = high
    if high > 0.0:
        x[3] = mean / high
        x[4] = np.sqrt(max(square / count - mean * mean, 0.0)) / high
    x[5] = 1.0 - served / count
    x[6] = most / total
    x[11] = asked / total
    x[12] = 1.0 / count


class Knowledge(NamedTuple):
    """All that a student answers by."""

    weights: Singles
    """[WEIGHTS], in the order of `_layers`."""
    centre: Singles
    """[FEATURES], mean of the inputs of known slots."""
    precision: Singles
    """[FEATURES], reciprocal of their variance."""
    taught: NDArray[np.bool_]
    """[SCORES], which scores the teacher gave often enough to learn from."""


class Student:
    """Answers by what it knows."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge
        self._room = np.empty((2, WIDE), np.float32)

    def answer(self, features: Singles, kinds: Kinds, scores: Floats, doubt: Singles) -> None:
        """Fill `scores` [SCORES, M], NaN where undefined or untaught, and `doubt` [M].

        Doubt is the deviation between the networks, and more where the slot is far from all that
        the student knows; negative where every score is undefined.
        """
        _answer(features, kinds, *self.knowledge, self._room, scores, doubt)


class Learner:
    """Learns from labels, lesson by lesson.

    Args:
        generator: draws the first weights, and which labels come when.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        draw = generator.standard_normal
        # Little weight on the inputs: what does not prove useful stays unheard.
        groups = (
            draw(FEATURES * WIDE) * (0.3 / np.sqrt(FEATURES)),
            draw(WIDE) / 2,
            draw(SCORES * WIDE) / (2 * np.sqrt(HIDDEN)),
            np.full(SCORES * MEMBERS, 0.5),
        )
        self._weights = np.concatenate(groups).astype(np.float32)
        self._moments = np.zeros((2, WEIGHTS), np.float32)
        self._powers = np.ones(2)
        self._room = np.empty(WEIGHTS + 2 * WIDE + SCORES * MEMBERS, np.float32)

    def learn(self, features: Singles, labels: Singles, steps: int, least: int) -> Knowledge:
        """Take `steps` steps of Adam on L labels, and return what is known then.

        Args:
            features: [L, FEATURES] of the labelled slots.
            labels: [L, SCORES] in [0, 1]; NaN where there is no score.
            steps: number of minibatches.
            least: labels of a score below which the student does not give it.
        """
        chosen = self._generator.integers(0, len(features), (steps, BATCH))
        _learn(features, labels, chosen, self._weights, self._moments, self._powers, self._room)
        centre, precision = np.empty((2, FEATURES), np.float32)
        _moments_of(features, centre, precision)
        taught = (~np.isnan(labels)).sum(axis=0) >= least
        return Knowledge(self._weights.copy(), centre, precision, taught)

    def state(self) -> dict[str, Any]:
        """Return weights, moments of the gradient and the generator's state."""
        return {
            "weights": self._weights.copy(),
            "moments": self._moments.copy(),
            "powers": self._powers.copy(),
            "generator": self._generator.bit_generator.state,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._weights[:], self._moments[:] = state["weights"], state["moments"]
        self._powers[:] = state["powers"]
        self._generator.bit_generator.state = state["generator"]


@jit
def _layers(flat: Singles) -> Any:
    """Return the groups of weights: [F, E H], [E H], [S, E H], [S, E], of E networks."""
    a = FEATURES * WIDE
    b = a + WIDE
    c = b + SCORES * WIDE
    return (
        flat[:a].reshape(FEATURES, WIDE),
        flat[a:b],
        flat[b:c].reshape(SCORES, WIDE),
        flat[c:WEIGHTS].reshape(SCORES, MEMBERS),
    )


@jit
def _forward(x: Singles, layers: Any, units: Singles, out: Singles) -> None:
    """Fill the activations `units` [E H], which bend by v / sqrt(1 + v^2), and `out` [S E].

    Inner loops run over units: these are independent, so the compiler may take several at once and
    no sum changes its order.
    """
    w1, b1, w2, b2 = layers
    one, two = np.float32(1.0), np.float32(2.0)
    for j in range(WIDE):
        units[j] = b1[j]
    for i in range(FEATURES):
        value = two * x[i] - one
        for j in range(WIDE):
            units[j] += value * w1[i, j]
    for j in range(WIDE):
        units[j] /= np.sqrt(one + units[j] * units[j])
    for k in range(SCORES):
        for e in range(MEMBERS):
            total = b2[k, e]
            for j in range(e * HIDDEN, (e + 1) * HIDDEN):
                total += units[j] * w2[k, j]
            out[k * MEMBERS + e] = total


@jit
def _answer(
    features: Singles,
    kinds: Kinds,
    weights: Singles,
    centre: Singles,
    precision: Singles,
    taught: NDArray[np.bool_],
    room: Singles,
    scores: Floats,
    doubt: Singles,
) -> None:
    zero, one, members = np.float32(0.0), np.float32(1.0), np.float32(MEMBERS)
    layers = _layers(weights)
    units, out = room
    for m in range(features.shape[0]):
        if kinds[m] <= UNDEFINED:
            for k in range(SCORES):
                scores[k, m] = np.nan
            doubt[m] = -one
            continue
        _forward(features[m], layers, units, out)
        spread = far = zero
        for k in range(SCORES):
            if not taught[k]:
                scores[k, m] = np.nan
                continue
            mean = square = zero
            for e in range(MEMBERS):
                value = min(max(out[k * MEMBERS + e], zero), one)
                mean += value
                square += value * value
            mean /= members
            scores[k, m] = mean
            spread += max(square / members - mean * mean, zero)
        if kinds[m] == LONE_SELLER:
            scores[1, m] = np.nan
        for i in range(FEATURES):
            away = features[m, i] - centre[i]
            far += min(away * away * precision[i], np.float32(FAR))
        doubt[m] = np.sqrt(spread) / np.float32(2.0) + np.float32(NOVELTY / FEATURES) * far


@jit
def _moments_of(features: Singles, centre: Singles, precision: Singles) -> None:
    """Fill the mean and the reciprocal variance of each input, [FEATURES]."""
    count = features.shape[0]
    for i in range(FEATURES):
        mean = square = 0.0
        for row in range(count):
            mean += features[row, i]
        mean /= count
        for row in range(count):
            square += (features[row, i] - mean) ** 2
        centre[i] = mean
        precision[i] = 1.0 / max(square / count, LEAST_DEVIATION**2)


@jit
def _learn(
    features: Singles,
    labels: Singles,
    chosen: Integers,
    weights: Singles,
    moments: Singles,
    powers: Floats,
    room: Singles,
) -> None:
    """Adam (Kingma and Ba 2015) on squared errors, and a proximal step towards few inputs.

    The step shrinks, for each network, the weights that leave an input as one group (group lasso:
    Yuan and Lin 2006).
    """
    zero, one, two = np.float32(0.0), np.float32(1.0), np.float32(2.0)
    layers = _layers(weights)
    w1, _, w2, _ = layers
    gradient = room[:WEIGHTS]
    g1, h1, g2, h2 = _layers(gradient)
    units, back = room[WEIGHTS : WEIGHTS + WIDE], room[WEIGHTS + WIDE : WEIGHTS + 2 * WIDE]
    out = room[WEIGHTS + 2 * WIDE :]
    steps, batch = chosen.shape
    per = one / np.float32(batch)
    for step in range(steps):
        gradient[:] = zero
        for b in range(batch):
            row = chosen[step, b]
            _forward(features[row], layers, units, out)
            back[:] = zero
            for k in range(SCORES):
                label = labels[row, k]
                for e in range(MEMBERS):
                    value = out[k * MEMBERS + e]
                    beyond = (label >= one and value > one) or (label <= zero and value < zero)
                    if beyond or np.isnan(label):
                        continue  # answers are clipped to [0, 1], so this one is right
                    error = (value - label) * per
                    h2[k, e] += error
                    for j in range(e * HIDDEN, (e + 1) * HIDDEN):
                        g2[k, j] += units[j] * error
                        back[j] += w2[k, j] * error
            for j in range(WIDE):
                flat = one - units[j] * units[j]
                back[j] *= flat * np.sqrt(flat)
                h1[j] += back[j]
            for i in range(FEATURES):
                value = two * features[row, i] - one
                for j in range(WIDE):
                    g1[i, j] += value * back[j]
        powers[0] *= 0.9
        powers[1] *= 0.999
        left = 1.0 - step / steps
        rate = np.float32(RATE * left * np.sqrt(1.0 - powers[1]) / (1.0 - powers[0]))
        for i in range(WEIGHTS):
            slope = gradient[i]
            moments[0, i] += np.float32(0.1) * (slope - moments[0, i])
            moments[1, i] += np.float32(0.001) * (slope * slope - moments[1, i])
            weights[i] -= rate * moments[0, i] / (np.sqrt(moments[1, i]) + np.float32(1e-8))
        threshold = np.float32(SPARSENESS) * rate
        for i in range(FEATURES):
            for e in range(MEMBERS):
                norm = zero
                for j in range(e * HIDDEN, (e + 1) * HIDDEN):
                    norm += w1[i, j] * w1[i, j]
                keep = max(zero, one - threshold / (np.sqrt(norm) + np.float32(1e-12)))
                for j in range(e * HIDDEN, (e + 1) * HIDDEN):
                    w1[i, j] *= keep
