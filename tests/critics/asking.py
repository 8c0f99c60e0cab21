"""Critics that ask a fake server, and what came of it."""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pytest

from peerwatt.fairness import SlotBatch, score_slots
from peerwatt.fairness.session import CriticSession, CriticUsage, opened
from peerwatt.fairness.transcript import Transcript
from peerwatt_critics.llm import LlmCritic
from peerwatt_critics.openai_http import OpenaiHttpCritic

needs_litellm = pytest.mark.skipif(find_spec("litellm") is None, reason="needs litellm")
CLIENTS = ("openai-http", pytest.param("llm", marks=needs_litellm))
KEY = "sk-fa/ke+0123456789=&x"
"""What servers get to see and files must not hold; its forms in addresses and base64 differ."""


def critic(client, api_base, **options):
    """A critic that asks the model "fake", quick to give up."""
    kind, model = {"openai-http": (OpenaiHttpCritic, "fake"), "llm": (LlmCritic, "openai/fake")}[
        client
    ]
    quick = {"model": model, "api_base": api_base, "concurrency": 1, "retries": 1, "timeout": 20.0}
    return kind(**(quick | options))


def markets(count, seed=0):
    """Slots of two sellers and two buyers, all different."""
    generator = np.random.default_rng(seed)
    surplus, deficit = np.zeros((2, count, 4))
    surplus[:, :2] = generator.integers(1, 1000, (count, 2)) / 1024
    deficit[:, 2:] = generator.integers(1, 1000, (count, 2)) / 1024
    most = np.minimum(surplus.sum(1), deficit.sum(1))
    volume = generator.uniform(0.1, 1.0, count) * most
    first = np.minimum(surplus[:, 0], volume)
    sold = np.stack([first, volume - first, 0 * first, 0 * first], axis=1)
    early = np.minimum(deficit[:, 2], volume)
    bought = np.stack([0 * early, 0 * early, early, volume - early], axis=1)
    price = generator.uniform(0.08, 0.28, count)
    return SlotBatch(
        feed_in=np.full(count, 0.08),
        retail=np.full(count, 0.28),
        reference=np.full(count, 0.18),
        surplus=surplus,
        deficit=deficit,
        offered=surplus,
        demanded=deficit,
        sold=sold,
        bought=bought,
        received=sold * price[:, None],
        paid=bought * price[:, None],
        volume=volume,
        mean_price=price,
        price_deviation=np.zeros(count),
    )


@dataclass
class Asked:
    """What a critic made of some slots."""

    slots: SlotBatch
    scores: np.ndarray  # [4, M]
    usage: CriticUsage

    @property
    def scored(self):
        """Which slots got the scores of the rule critic, as precise as the prompt's scale."""
        exact = np.array(score_slots(self.slots))
        missing = np.isnan(self.scores).all(axis=0)
        np.testing.assert_allclose(self.scores[:, ~missing], exact[:, ~missing], atol=0.03)
        return (~missing).tolist()


def ask(critic, folder, count=3, slots=None, **session):
    """Have `critic` score slots in a run of its own, with cache and transcript in `folder`."""
    slots = markets(count) if slots is None else slots
    transcript = Transcript(folder / "critic.jsonl", {"critic": {}})
    try:
        with opened(
            critic,
            CriticSession(
                np.random.default_rng(1),
                **{"run": "r", "entry": "e", "store": folder, "transcript": transcript} | session,
            ),
        ) as work:
            scores = np.array(work.score(slots))
            return Asked(slots, scores, work.usage())
    finally:
        transcript.close()
