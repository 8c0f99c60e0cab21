"""A genuine language model through both clients: it scores, shapes, and is replayed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from peerwatt import VectorMarket, load_task
from peerwatt.env.records import slot_batch
from peerwatt.fairness.session import CriticSession, opened
from peerwatt.runs.store import read_result
from peerwatt_critics import local_model
from peerwatt_critics.llm import LlmCritic
from peerwatt_critics.openai_http import OpenaiHttpCritic

pytestmark = pytest.mark.slow

CLIENTS = {
    "openai-http": (OpenaiHttpCritic, local_model.MODEL),
    "llm": (LlmCritic, f"openai/{local_model.MODEL}"),
}
TRAINING = "run --task pilot-v1 --algorithm ippo --budget 40k --seeds 1 --shaping.warm 0"


def cleared_slots(count):
    """Slots of the simulated task in which some trade was feasible, played at random."""
    task = load_task("pilot-v1")
    market = VectorMarket(task, count, seed=7)
    market.reset()
    rng = np.random.default_rng(7)
    while True:
        shape = (count, task.community.size, len(market.action_nvec))
        slots = slot_batch(
            task, market.tables.ticks, market.step(rng.integers(0, market.action_nvec, shape)).slot
        )
        if (np.minimum(slots.surplus.sum(axis=1), slots.deficit.sum(axis=1)) > 0).all():
            return slots


def peerwatt(line, folder):
    """Run a command line in `folder`, without any key in its environment."""
    done = subprocess.run(
        [Path(sys.executable).with_name("peerwatt"), *line.split()],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if "KEY" not in key},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("client", CLIENTS)
def test_it_scores_through_both_clients(address, client):
    factory, model = CLIENTS[client]
    critic = factory(model=model, api_base=address, prompt="summary-v1", concurrency=2)
    slots = cleared_slots(8)
    with opened(critic, CriticSession(np.random.default_rng(0))) as work:
        scores = np.array(work.score(slots))
        usage = work.usage()
    assert scores.shape == (4, 8)
    assert np.isfinite(scores[0]).mean() > 0.5
    assert ((scores >= 0) & (scores <= 1))[np.isfinite(scores)].all()
    assert usage.models == (local_model.MODEL,)
    assert usage.scored == 8 - sum(usage.abstained.values())
    assert usage.prompt_tokens > 1000
    assert usage.completion_tokens > 50
    assert usage.dollars is None  # its price is not known, which is not 0
    assert not usage.failed


def test_training_that_it_shaped_is_replayed_without_it_to_the_same_policy(tmp_path):
    if local_model.missing():
        pytest.skip(local_model.missing())
    with local_model.serving() as address:
        asked = f"--critic llm --critic.model openai/{local_model.MODEL} --critic.every 80"
        how = f"--critic.api-base {address} --critic.prompt summary-v1 --critic.concurrency 2"
        peerwatt(f"{TRAINING} {asked} {how}", tmp_path)
    (shaped,) = tmp_path.glob("runs/pilot-v1/ippo--llm--*/seed-000")
    # The server is gone: whoever asks it now fails.
    peerwatt(f"{TRAINING} --critic replay --critic.transcript {shaped}", tmp_path)
    peerwatt(TRAINING, tmp_path)
    (replayed,) = tmp_path.glob("runs/pilot-v1/ippo--replay--*/seed-000")
    (alone,) = tmp_path.glob("runs/pilot-v1/ippo--none--*/seed-000")
    assert policy(replayed) == policy(shaped)
    assert policy(alone) != policy(shaped)
    usage = read_result(shaped).critic_usage
    assert usage.scored > 10
    assert usage.scored > 0.5 * usage.wanted
    again = read_result(replayed).critic_usage
    assert (again.calls, again.scored) == (0, usage.scored)


def policy(folder):
    """Return the digests of the files of a run's policy."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and file.name not in ("result.json", "metrics.jsonl", "critic.jsonl")
    }
