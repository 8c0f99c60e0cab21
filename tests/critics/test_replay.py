import dataclasses
import json
import shutil

import pytest
from fake_server import FakeServer, error
from played import played

from peerwatt.errors import PeerWattError
from peerwatt.fairness.session import opened
from peerwatt.fairness.transcript import TRANSCRIPT_FILE, Transcript
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.runs.store import read_result
from peerwatt_critics.openai_http import OpenaiHttpCritic
from peerwatt_critics.replay import ReplayCritic

SMALL = (("num_envs", 2), ("rollout_slots", 24), ("hidden", (8,)))
BUDGET = 8 * 2 * 24 * 4


def train(folder, critic, seed=0, budget=BUDGET, **options):
    config = RunConfig(
        "pilot-v1",
        "ippo",
        critic=critic,
        seed=seed,
        budget=budget,
        algorithm_options=SMALL,
        critic_options=tuple(options.items()),
        validations=0,
    )
    return execute(resolve(config), folder)


def policy(run):
    return {file.name: file.read_bytes() for file in run.iterdir() if "policy" in file.name}


def asked(server, **options):
    """Options of a critic that asks `server`, in the form of a critic within another."""
    return {"model": "fake", "api_base": server.url, "retries": 0, **options}


def text(server, **options):
    return "openai-http:" + json.dumps(asked(server, **options))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two recorded runs of an entry, whose server fails now and then and is gone by now."""
    results = tmp_path_factory.mktemp("results")
    with FakeServer(lambda number: None if number % 5 else error(500)) as server:
        options = asked(server, share=0.3, fallback="rule")
        return [train(results, "openai-http", seed, **options) for seed in (0, 1)]


def test_replay_makes_the_same_policy_without_the_server(recorded, tmp_path):
    for seed, run in enumerate(recorded):
        again = train(tmp_path, "replay", seed, transcript=str(run.parent))
        assert policy(again) == policy(run) != {}
        then, now = (read_result(folder).critic_usage for folder in (run, again))
        assert now.calls == 0
        assert now.cache_hits == now.scored > 0
        for name in ("slots", "undefined", "skipped", "scored", "fallback", "abstained"):
            assert getattr(now, name) == getattr(then, name)
        assert then.fallback > 0


@pytest.mark.parametrize("critic", ["ensemble", "distilled"])
def test_critics_made_of_others_replay(critic, tmp_path):
    with FakeServer() as server:
        options = {
            "ensemble": {"members": (text(server, share=0.3), "random"), "repeats": 2},
            "distilled": {
                "teacher": text(server),
                "ready": 4,
                "join_every": 4,
                "ask_share": 0.5,
                "work_share": 0.4,
                "held_out": 0.1,
            },
        }[critic]
        run = train(tmp_path / "once", critic, **options)
        calls = len(server.seen)
    usage = read_result(run).critic_usage
    assert usage.calls == calls > 10
    again = train(tmp_path / "again", "replay", transcript=str(run))
    assert policy(again) == policy(run)
    replayed = read_result(again).critic_usage
    assert replayed.calls == 0
    assert replayed.held_out == usage.held_out
    if critic == "distilled":
        assert usage.student > 0
        assert usage.held_out.slots > 2
        assert usage.held_out.asked == calls


def test_another_run_is_refused(recorded, tmp_path):
    run = recorded[0]
    with pytest.raises(PeerWattError, match="is of seed 0, not of seed 1"):
        train(tmp_path, "replay", 1, transcript=str(run))
    with pytest.raises(PeerWattError, match=r"no transcript of seed 7; replay the seeds 0, 1\."):
        train(tmp_path, "replay", 7, transcript=str(run.parent))
    with pytest.raises(PeerWattError, match=r"not the recorded one|never asked|ends before"):
        train(tmp_path, "replay", 0, BUDGET * 2, transcript=str(run))


def test_a_run_that_asks_less_is_refused(recorded, session):
    replay = ReplayCritic(str(recorded[0]))
    with (
        pytest.raises(PeerWattError, match=r"never asked \d+ of the recorded questions"),
        opened(replay, session()),
    ):
        pass


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ({"critic": {"name": "replay", "options": {}}, "seed": 0}, "is of a replay"),
        ({"critic": "rule", "seed": 0}, "names no critic"),
        ({"critic": {"name": "nobody", "options": {}}, "seed": 0}, "unknown critic"),
        ({"critic": {"name": "rule", "options": {"a": 1}}, "seed": 0}, "option of critic"),
        ({"critic": {"name": "rule", "options": {}}}, "is of seed None"),
    ],
)
def test_a_transcript_of_no_critic_is_refused(head, problem, session, tmp_path):
    transcript = Transcript(tmp_path / TRANSCRIPT_FILE, head)
    transcript.write("answer", "", {"question": "?"})
    transcript.close()
    with pytest.raises(PeerWattError, match=problem):
        ReplayCritic(str(tmp_path)).open(session())


def test_what_is_no_transcript_is_refused(session, tmp_path):
    with pytest.raises(PeerWattError, match="transcript is empty; name a transcript"):
        ReplayCritic().open(session())
    with pytest.raises(PeerWattError, match=f"no {TRANSCRIPT_FILE} is in the folder"):
        ReplayCritic(str(tmp_path)).open(session())
    nowhere = ReplayCritic(str(tmp_path / "x"))
    for use in (nowhere.contents, lambda: nowhere.open(session())):
        with pytest.raises(PeerWattError, match="cannot be read"):
            use()


def test_the_transcript_is_part_of_what_it_is(recorded, tmp_path):
    assert ReplayCritic().contents() == {}
    one, both = (ReplayCritic(str(place)).contents() for place in (recorded[0], recorded[0].parent))
    assert one != both
    moved = shutil.copytree(recorded[0].parent, tmp_path / "elsewhere")
    assert ReplayCritic(str(moved)).contents() == both
    with (moved / "seed-001" / TRANSCRIPT_FILE).open("a") as file:
        file.write("\n")
    assert ReplayCritic(str(moved)).contents() != both


def test_replay_opens_no_connection_and_no_cache(recorded, session, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a transport was made")

    monkeypatch.setattr(OpenaiHttpCritic, "_transport", refuse)
    work = ReplayCritic(str(recorded[0])).open(dataclasses.replace(session(), store=tmp_path))
    with pytest.raises(PeerWattError, match="not the recorded one"):
        for slots in played(20):
            work.score(slots)
    work.close(False)
    assert not list(tmp_path.iterdir())
