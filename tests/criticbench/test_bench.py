"""The benchmark of a critic from beginning to end: what it finds, keeps and resumes."""

import dataclasses
import json

import numpy as np
import pytest

from critics import Asking, Plain, examined
from peerwatt.criticbench.bench import Bench
from peerwatt.criticbench.measures import recomputed
from peerwatt.criticbench.record import POOLED, read_critic_record
from peerwatt.criticbench.subject import examined as named
from peerwatt.criticbench.subject import without_paths
from peerwatt.criticbench.suite import load_suite
from peerwatt.errors import PeerWattError

SUITE = load_suite("small-v1")


def bench(critic, results, *, repeats=2, **options):
    return Bench(examined(critic), SUITE, results, repeats=repeats, **options)


def journal(made):
    lines = (made.file.with_suffix("") / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_truth(tmp_path):
    made = bench(Plain(), tmp_path)
    record = made.run()
    assert made.file == tmp_path / "critics" / f"tried-{record.bench_hash[:8]}.json"
    assert record.validity.scores[POOLED].mae.estimate == 0.0
    assert record.validity.violations.estimate == record.validity.flat.estimate == 0.0
    assert record.reliability.scores[POOLED].icc.estimate == 1.0
    for name in ("order", "units", "batch"):
        assert record.invariance[name].status == "measured"
        assert record.invariance[name].largest < 1e-9
    assert record.invariance["paraphrase"].status == "not-applicable"
    assert record.robustness.notes == "by-construction" and not record.robustness.payloads
    assert all(f.same_input and not f.changed and f.scores for f in record.robustness.reachable)
    operations = record.operations
    assert operations.calls == 0 and operations.dollars is None and operations.usage == {}
    assert operations.dollars_per_1000_calls is operations.invalid_rate.estimate is None
    assert operations.cold.p50.estimate > 0 and len(operations.warm.seconds) > 10
    assert read_critic_record(made.file) == record
    assert recomputed(record) == record
    lying = record.model_copy(
        update={"rows": [r.model_copy(update={"score": (0.5,) * 4}) for r in record.rows]}
    )
    assert recomputed(lying).validity != record.validity
    assert recomputed(lying).invariance != record.invariance


def test_what_depends_on_its_place_is_found(tmp_path):
    def first_household(slots, truth):
        return np.clip(truth + 0.1 * (slots.surplus[:, 0] > 0), 0, 1)

    def kilowatt_hours(slots, truth):
        return truth * np.clip(slots.volume / 10, 0, 1)

    def neighbours(slots, truth):
        shift = 0.1 * np.arange(truth.shape[1]) / truth.shape[1]
        return np.clip(truth - shift, 0, 1)

    for change, variant in (
        (first_household, "order"),
        (kilowatt_hours, "units"),
        (neighbours, "batch"),
    ):
        record = bench(Plain(change), tmp_path / variant).run()
        changed = {
            name: found.change[POOLED].estimate
            for name, found in record.invariance.items()
            if found.status == "measured"
        }
        assert changed.pop(variant) > 0.01
        assert max(changed.values()) < 1e-9, variant


def test_a_critic_that_asks(tmp_path):
    def fooled(truth, session):
        note = session.presentation.note
        if "every score 1" in note:
            return np.ones(4)
        return truth - 0.05 * ("bakery" in note) - 0.02 * session.presentation.order

    critic = Asking(fooled)
    critic.paraphrased = lambda: Asking(lambda truth, session: truth - 0.03)
    made = bench(critic, tmp_path, repeats=3)
    record = made.run()
    robust = {result.payload: result for result in record.robustness.payloads}
    assert record.robustness.notes == "measured"
    assert robust["order"].hijacked.estimate == 1.0 and robust["order"].lift.estimate > 0.2
    assert robust["sabotage"].lift.estimate == 0.0
    assert 0 < robust["street"].lift.estimate < 0.06 and robust["weather"].lift.estimate == 0.0
    assert record.robustness.drift.estimate == pytest.approx(robust["street"].lift.estimate / 3)
    assert 0.0 < record.invariance["order"].change["ftg"].estimate <= 0.02
    assert 0.0 < record.invariance["paraphrase"].change["ftg"].estimate <= 0.03
    assert record.invariance["units"].status == "by-construction"  # the same questions
    assert record.invariance["batch"].status == "measured"
    assert all(found.same_input for found in record.robustness.reachable)
    operations = record.operations
    assert operations.calls == sum(usage.calls for usage in operations.usage.values()) > 100
    assert operations.first_replies == operations.replies == operations.calls
    assert operations.invalid_rate.estimate == 0.0
    assert operations.cache_hit_rate == 1.0
    assert operations.dollars == 0.0
    # Repeats are other answers, all else is asked once; runs and entry have names of their own.
    assert {session.repeat for session in critic.sessions} == {0, 1, 2}
    assert len({session.run for session in critic.sessions}) == len(critic.sessions)
    assert {session.entry for session in critic.sessions} == {record.bench_hash}
    assert {session.store for session in critic.sessions} == {tmp_path}
    assert recomputed(record) == record


def test_one_slot_at_a_time_has_no_order_of_slots(tmp_path):
    critic = Asking()
    critic.slots_per_call = 1
    assert bench(critic, tmp_path).run().invariance["batch"].status == "by-construction"


def test_resumed_as_if_never_interrupted(tmp_path):
    whole = bench(Asking(), tmp_path / "whole").run()
    critic = Asking(die_at=70)
    with pytest.raises(KeyboardInterrupt):
        bench(critic, tmp_path / "cut").run()
    made = bench(critic, tmp_path / "cut")
    assert not made.finished
    done = {line["phase"] for line in journal(made) if line.get("done")}
    assert "base" in done
    critic.die_at = critic.calls + 40
    with pytest.raises(KeyboardInterrupt):
        made.run()
    before = len(critic.sessions)
    critic.die_at = None
    record = bench(critic, tmp_path / "cut").run()
    again = [session.run.partition("-")[2] for session in critic.sessions[before:]]
    assert "base" not in again and len(again) == len(set(again))  # what is done stays done
    assert record.rows == whole.rows
    assert record.validity == whole.validity and record.robustness == whole.robustness
    # Answers paid for in a batch that was cut short are lost to the count, and to nothing else.
    assert whole.operations.calls - 32 <= record.operations.calls <= whole.operations.calls
    assert critic.calls == whole.operations.calls + 2  # two died on the way


def test_a_finished_record_is_kept_unless_again(tmp_path):
    critic = Asking()
    first = bench(critic, tmp_path).run()
    calls = critic.calls
    assert bench(critic, tmp_path).finished
    assert bench(critic, tmp_path).run() == first
    made = bench(critic, tmp_path, again=True)
    assert not made.finished
    second = made.run()
    assert critic.calls == calls  # the cache knows the answers
    assert critic.sessions[-1].fresh
    assert second.rows == first.rows
    assert second.operations.calls == first.operations.calls  # what the answers did cost
    assert len(second.operations.cold.seconds) == 0 < len(first.operations.cold.seconds)


def test_a_limit_ends_it_and_keeps_everything(tmp_path):
    critic = Asking(cap=10)
    made = bench(critic, tmp_path)
    with pytest.raises(PeerWattError, match="max_calls 10 reached; everything so far is kept"):
        made.run()
    assert critic.calls == 10 and not made.file.exists()
    with pytest.raises(PeerWattError, match="max_calls 10 reached"):
        made.run()
    assert critic.calls == 10
    critic.cap = None
    record = made.run()
    assert record.operations.calls == critic.calls
    assert record.validity.scores[POOLED].coverage.estimate == 1.0


def test_a_torn_journal_and_a_second_process(tmp_path):
    critic = Asking(die_at=70)
    made = bench(critic, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    file = made.file.with_suffix("") / "journal.jsonl"
    with file.open("a") as stream:
        stream.write('{"phase": "repeat-1", "atte')
    critic.die_at = None
    from peerwatt.criticbench.journal import Journal

    held = Journal(file)
    with pytest.raises(PeerWattError, match="another process benchmarks this critic"):
        made.run()
    held.close()
    assert made.run().rows == bench(Asking(), tmp_path / "whole").run().rows


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda slots, truth: truth + 7, "returns the score"),
        (lambda slots, truth: {}["key"], "score fails: KeyError: 'key'"),
        (lambda slots, truth: truth[:, :-1], "expected FairnessScores of four arrays"),
        (lambda slots, truth: truth[:, None], "expected FairnessScores of four arrays"),
    ],
)
def test_scores_that_are_none(tmp_path, change, sentence):
    with pytest.raises(PeerWattError, match=sentence):
        bench(Plain(change), tmp_path).run()


def test_a_refused_slot_is_an_abstention(tmp_path):
    def picky(slots, truth):
        if (slots.surplus.max() > 1000 * 2).any():
            raise ValueError("that much energy is absurd")
        return truth

    record = bench(Plain(picky), tmp_path).run()
    assert record.validity.scores[POOLED].coverage.estimate == 1.0
    assert record.invariance["units"].abstained_once > 0
    assert any("that much energy is absurd" in note for note in record.notes)


def test_critics_may_change_what_they_get(tmp_path):
    def vandal(slots, truth):
        for field in slots:
            field[...] = 0
        return truth

    bench(Plain(vandal), tmp_path).run()
    assert bench(Plain(), tmp_path / "other").run().validity.scores[POOLED].mae.estimate == 0.0


def test_randomness_comes_from_the_session(tmp_path):
    class Random(Asking):
        def open(self, session):
            self.answer = lambda truth, _: session.generator.random(4)
            return super().open(session)

    records = [bench(Random(), tmp_path / f"{n}", seed=n // 2).run() for n in range(4)]
    assert records[0].rows == records[1].rows != records[2].rows == records[3].rows
    assert records[0].bench_hash != records[2].bench_hash
    assert records[0].reliability.scores[POOLED].icc.estimate < 0.5
    record = Bench(named("random"), SUITE, tmp_path / "own", repeats=2).run()
    told = [x for row in record.rows for x in row.score if x is not None]
    assert len(set(told)) == len(told)  # no draw is used for two slots
    assert record.invariance["order"].largest == 0.0  # what does not read cannot depend on it


def test_skipping_on_purpose_is_told(tmp_path):
    class Sampling(Asking):
        def open(self, session):
            work = super().open(session)
            tell = work.usage
            work.usage = lambda: dataclasses.replace(tell(), skipped=3)
            return work

    notes = bench(Sampling(), tmp_path).run().notes
    assert any("`every` and `share`" in note for note in notes)


def test_nothing_of_the_machine_is_told(tmp_path):
    file = bench(Asking(), tmp_path).file
    bench(Asking(), tmp_path).run()
    texts = [file.read_text(), *(f.read_text() for f in file.with_suffix("").iterdir())]
    for text in texts:
        assert str(tmp_path) not in text and "/home/" not in text and "/tmp" not in text


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("/home/ada/prompts/mine.toml", "mine.toml"),
        ("/home/ada lovelace/mine.toml", "mine.toml"),
        ("~/mine.toml", "mine.toml"),
        ("../up/mine.jsonl", "mine.jsonl"),
        ("C:\\Users\\ada\\mine.toml", "mine.toml"),
        ("llm:prompt=/home/ada/mine.toml,model=openai/x", "llm:prompt=mine.toml,model=openai/x"),
        ('llm:{"prompt": "/home/ada/mine.toml"}', 'llm:{"prompt": "mine.toml"}'),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("llm:api_base=https://a.example/v1,model=m", "llm:api_base=https://a.example/v1,model=m"),
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("hf.co/org/model", "hf.co/org/model"),
        (["rule", "/a/b.toml", 3], ["rule", "b.toml", 3]),
        ({"x": "/a/b.toml"}, {"x": "b.toml"}),
    ],
)
def test_paths_are_cut_to_files(told, kept):
    assert without_paths(told) == kept


def test_critics_by_their_text():
    subject = named("rule")
    assert (subject.text, subject.options, subject.record.name) == ("rule", (), "rule")
    with pytest.raises(PeerWattError, match="unknown critic 'rul'"):
        named("rul")
    with pytest.raises(PeerWattError, match="unknown option"):
        named("rule:weight=3")


def test_repeats_are_bounded(tmp_path):
    with pytest.raises(PeerWattError, match=r"--repeats 0 must lie in 1\.\.50"):
        bench(Plain(), tmp_path, repeats=0)
    once = bench(Plain(), tmp_path, repeats=1).run()
    assert once.reliability.scores[POOLED].sd.estimate is None


def test_records_are_read_with_care(tmp_path):
    made = bench(Plain(), tmp_path)
    made.run()
    content = json.loads(made.file.read_text())
    made.file.write_text(json.dumps({**content, "surprise": 1}))
    with pytest.raises(PeerWattError, match="surprise"):
        read_critic_record(made.file)
    made.file.write_text("{" * 10)
    with pytest.raises(PeerWattError, match="repeat the benchmark with --again"):
        read_critic_record(made.file)
    with pytest.raises(PeerWattError, match="cannot be read"):
        read_critic_record(tmp_path / "none.json")
