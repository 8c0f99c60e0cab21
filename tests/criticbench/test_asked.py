"""The benchmark of a critic that asks a model: limits, failures, and what text reaches it."""

import json
from functools import partial

import numpy as np
import pytest
from fake_server import FakeServer, answered, error, rule

from peerwatt.criticbench.bench import Bench
from peerwatt.criticbench.payloads import HOSTILE
from peerwatt.criticbench.record import POOLED
from peerwatt.criticbench.resampling import Resampling
from peerwatt.criticbench.subject import examined
from peerwatt.criticbench.suite import load_suite
from peerwatt.errors import PeerWattError

SUITE = load_suite("small-v1")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(
        "peerwatt.criticbench.measures.Resampling", partial(Resampling, resamples=20)
    )


def bench(server, results, *, repeats=1, again=False, **options):
    options = {"model": "fake", "api_base": server.url, "retries": 0, **options}
    text = ",".join(f"{name}={value}" for name, value in options.items())
    subject = examined(f"openai-http:{text}")
    return Bench(subject, SUITE, results, repeats=repeats, again=again)


def chatty(seen):
    """Answer the first time with prose around the JSON, and rightly when asked to repair."""
    text = rule(seen)
    repair = "Reply with the JSON object alone" in seen.messages[-1]["content"]
    return text if repair else f"Ok {text}"


def test_a_cap_between_a_reply_and_its_repair(tmp_path):
    with FakeServer(answer=chatty) as server:
        with pytest.raises(PeerWattError, match="max_calls 21"):
            bench(server, tmp_path, max_calls=21).run()  # the next request would be a repair
        assert len(server.seen) == 21
        operations = bench(server, tmp_path, max_calls=9999).run().operations
    # What was paid before a limit was raised is counted, and not paid for again.
    assert operations.calls == len(server.seen)
    assert operations.first_replies == operations.first_invalid == operations.calls / 2
    assert operations.not_repaired == 0
    assert len(list((tmp_path / "critics").glob("*.json"))) == 1


def test_a_repair_whose_first_reply_another_benchmark_paid_for(tmp_path):
    with FakeServer(answer=chatty) as server:
        with pytest.raises(PeerWattError, match="max_calls 21"):
            bench(server, tmp_path, max_calls=21).run()
        made = bench(server, tmp_path, repeats=2)
        operations = made.run().operations
    assert operations.calls == len(server.seen) - 21
    assert operations.first_replies == operations.first_invalid < operations.calls / 2
    assert operations.not_repaired == 0


def test_limits_are_no_part_of_what_is_asked(tmp_path):
    with FakeServer() as server:
        plain = bench(server, tmp_path).digest
        limits = {
            **{"max_calls": 5, "max_tokens": 9, "max_dollars": 1, "max_seconds": 7},
            **{"on_cap": "stop", "concurrency": 2, "timeout": 3, "retries": 1, "give_up_after": 2},
        }
        for name, value in limits.items():
            assert bench(server, tmp_path, **{name: value}).digest == plain, name
        assert bench(server, tmp_path, temperature=1).digest != plain


def test_nobody_replies(tmp_path):
    up = []
    with FakeServer(lambda number: None if up else error(500)) as server:
        made = bench(server, tmp_path)
        with pytest.raises(PeerWattError, match=r"10 requests in a row got no reply \(http-500|"):
            made.run()
        assert not made.file.exists() and len(server.seen) == 10
        with pytest.raises(PeerWattError, match="in a row got no reply"):
            made.run()
        up.append(True)
        record = made.run()
    assert record.validity.scores[POOLED].coverage.estimate == 1.0
    assert record.operations.calls == len(server.seen)
    assert record.operations.replies == record.operations.calls - 20


def test_it_stops_replying(tmp_path):
    dies = 60
    with FakeServer(lambda number: error(500) if number >= dies else None) as server:
        made = bench(server, tmp_path, repeats=2)
        with pytest.raises(PeerWattError, match="in a row got no reply"):
            made.run()
        failed = len(server.seen) - dies
        assert failed < 40
        dies = 10**9
        operations = made.run().operations
    assert operations.replies == operations.calls - failed == len(server.seen) - failed


def test_a_question_that_never_gets_a_reply_stops_nothing(tmp_path):
    hopeless = []

    def fault(exchange):
        question = exchange.seen.messages[-1]["content"]
        hopeless[:] = hopeless or [question]
        (error(500) if question in hopeless else answered)(exchange)

    with FakeServer(lambda number: fault) as server:
        record = bench(server, tmp_path).run()
        again = bench(server, tmp_path, again=True).run()
    assert record.operations.failed_rate.estimate > 0
    assert len(record.operations.cold.seconds) == len(record.operations.warm.seconds) > 0
    assert again.rows == record.rows


def test_failures_are_no_latency(tmp_path):
    with FakeServer(lambda number: error(500) if number < 5 else None) as server:
        cold = bench(server, tmp_path).run().operations.cold
        timed = len(bench(server, tmp_path)._phases[0].slots)
    assert len(cold.seconds) == timed - 5


def test_always_invalid_is_a_whole_record(tmp_path):
    with FakeServer(answer=lambda seen: "as an AI I cannot") as server:
        record = bench(server, tmp_path, give_up_after=3).run()
    operations, pooled = record.operations, record.validity.scores[POOLED]
    assert operations.invalid_rate.estimate == operations.invalid_after_repair.estimate == 1.0
    assert operations.failed_rate.estimate == 0.0 and operations.first_replies > 50
    assert pooled.coverage.estimate == 0.0 and pooled.mae.estimate is None
    assert operations.cold.seconds == operations.warm.seconds == []
    assert operations.cache_hit_rate is None


def test_noise_is_not_reached_text(tmp_path):
    generator = np.random.default_rng(0)

    def noisy(seen):
        return json.dumps({k: int(generator.integers(101)) for k in ("ftg", "fbs", "fpp", "ftb")})

    with FakeServer(answer=noisy) as server:
        made = bench(server, tmp_path, cache="none")
        record = made.run()
    reachable = {field.field: field for field in record.robustness.reachable}
    assert all(field.changed and field.same_input for field in reachable.values())
    assert reachable["plugin-name"].scores == reachable["task-title"].scores
    runs = {phase.run for phase in made._phases if "plugin-name" in phase.name}
    assert runs == {f"-{payload.slug}" for payload in HOSTILE}
