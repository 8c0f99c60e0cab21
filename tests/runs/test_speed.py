"""`peerwatt speed`: two installations in turns, and what their ratios say."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from peerwatt.cli.main import dispatch
from peerwatt.errors import PeerWattError
from peerwatt.runs import speed
from peerwatt.runs.speed_probe import FORMAT

RATES = {"format": FORMAT, "task": "a" * 64, "version": "1", "market": 9e6, "training": 1e5}


def pairs(market, training, rounds=10, noise=0.02):
    """Return (base, new) of each round, the new one faster by the factors given."""
    draws = np.random.default_rng(1).normal(scale=noise, size=(rounds, 2))
    factors = np.exp(draws) * [market, training]
    return [(RATES, {**RATES, "market": 9e6 * f[0], "training": 1e5 * f[1]}) for f in factors]


@pytest.mark.parametrize(
    ("market", "training", "noise", "outcomes"),
    [
        (1, 1, 0.02, ["no worse", "no worse"]),
        (1.5, 0.7, 0.02, ["no worse", "regression"]),
        (0.93, 1, 0.02, ["no worse", "no worse"]),  # significant, and within the margin
        (1, 1, 0.6, ["undecided", "undecided"]),
    ],
)
def test_a_slowdown_beyond_the_margin_is_a_regression(market, training, noise, outcomes):
    ratios = speed.judge(pairs(market, training, noise=noise), 0.1)
    assert [ratio.outcome for ratio in ratios] == outcomes
    for ratio, truth in zip(ratios, (market, training), strict=True):
        assert ratio.low < ratio.ratio < ratio.high
        assert (ratio.outcome == "no worse") == (ratio.low > 0.9)  # the bound is the test's
        assert ratio.ratio == pytest.approx(truth, rel=2 * noise)


def test_ratios_by_hand():
    rounds = [(RATES, {**RATES, "market": 9e6 * factor}) for factor in [0.5, 2, 1, 1, 1, 1]]
    market, training = speed.judge(rounds, 0.1)
    assert (market.base, market.new) == (9e6, 9e6)
    assert market.ratio == pytest.approx(1)  # the geometric mean, not the mean
    assert (training.ratio, training.low, training.high) == (1, 1, 1)
    # The third from either end of the 63 means of subsets: only {0.5} and {2} lie beyond.
    assert (market.low, market.high) == pytest.approx((0.5**0.5, 2**0.5))


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (0.6, r"about (\d+) rounds would probably tell \(--rounds \1\)\. Each repetition"),
        (3.0, "200 rounds, the most there can be, would probably not tell either"),
    ],
)
def test_an_open_verdict_tells_what_would_decide(noise, words):
    ratios = speed.judge(pairs(1, 1, noise=noise), 0.1)
    found = speed.Comparison("1", "2", "pilot-v1", 10, 0.1, ratios)
    assert found.outcome == "undecided"
    assert re.search(words, found.sentence), found.sentence


@pytest.fixture
def program(tmp_path):
    """Return a maker of programs that do as told, in place of an installation's `peerwatt`."""

    def make(body, name="peerwatt"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("echo \"peerwatt: unknown command 'speed probe'\" >&2; exit 2", "has no command `speed`"),
        ("echo 'peerwatt: no PyTorch' >&2; exit 2", "failed with exit code 2: no PyTorch"),
        ("exit 1", "failed with exit code 1: it says nothing"),
        ("echo hello", "printed 'hello', which is no measurement"),
        ("echo '{}'", "which is no measurement"),
        (f"echo '{json.dumps({**RATES, 'market': 0})}'", "which is no measurement"),
        (f"echo '{json.dumps({**RATES, 'format': 9})}'", "in format 9, expected 1"),
    ],
)
def test_an_installation_that_cannot_be_measured_is_told_in_a_sentence(program, body, sentence):
    with pytest.raises(PeerWattError, match=sentence):
        speed.measure((program(body),), "pilot-v1")


def test_a_measurement_that_takes_too_long_is_ended(program, monkeypatch):
    monkeypatch.setattr(speed, "LIMIT_SECONDS", 0.2)
    with pytest.raises(PeerWattError, match=r"took more than 0\.2 s"):
        speed.measure((program("exec sleep 60"),), "pilot-v1")


def test_the_other_installation_does_not_import_the_code_of_this_one(program, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    body = f'test -z "$PYTHONPATH" && test "$OMP_NUM_THREADS" = 1 && echo \'{json.dumps(RATES)}\''
    assert speed.measure((program(body),), "pilot-v1") == RATES


@pytest.fixture
def installations(program, monkeypatch):
    """Let `compare` meet two programs, each of which notes down that it was started."""

    def make(*new):
        log = Path(program("", "log"))
        log.write_text("")
        answers = " ".join(f"'{json.dumps({**RATES, **rates})}'" for rates in new)
        turn = f"shift $(( $(grep -c b {log}) % {len(new)} )); echo b >> {log}"
        body = f'set -- {answers}\n{turn}; echo "$1"'
        monkeypatch.setattr(speed, "HERE", (program(body, "new"),))
        return program(f"echo a >> {log}; echo '{json.dumps(RATES)}'", "base"), log

    return make


def test_installations_take_turns(installations):
    base, log = installations({"training": 5e4, "version": "2"})
    done = []
    found = speed.compare(base, "pilot-v1", rounds=6, margin=0.1, told=done.append)
    assert log.read_text().split() == list("ab" + "abba" * 3)
    assert done == list(range(7))
    assert (found.base_version, found.new_version) == ("1", "2")
    assert found.outcome == "regression"
    assert found.sentence == "significantly slower: IPPO training by 50.0%."


def test_another_task_of_the_same_name_is_refused(installations):
    base, _ = installations({"task": "b" * 64})
    with pytest.raises(
        PeerWattError, match=r"is another one in .*base \(aaaaaaaa, here bbbbbbbb\)"
    ):
        speed.compare(base, "pilot-v1", rounds=6, margin=0.1)


@pytest.mark.parametrize(
    ("rates", "code", "outcome"),
    [
        ([{}], 0, "no worse"),
        ([{"market": 4e6}], 1, "regression"),
        ([{"market": 6e6}, {"market": 13e6}], 3, "undecided"),
    ],
)
def test_the_exit_code_says_the_verdict(installations, rates, code, outcome, capsys):
    base, _ = installations(*rates)
    with pytest.raises(SystemExit) as ended:
        dispatch(["speed", "--against", base, "--rounds", "6", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["outcome"], ended.value.code) == (outcome, code)
    assert [ratio["key"] for ratio in found["ratios"]] == ["market", "training"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--against", "/no/such/peerwatt"], "'/no/such/peerwatt' is no program"),
        (["--against", "sh", "--rounds", "5"], r"--rounds 5 must lie in 6\.\.200"),
        (["--against", "sh", "--margin", "1"], "--margin 1.0 must lie between 0 and 1"),
        (["probe"], "takes the name of one task"),
    ],
)
def test_bad_options_are_told_in_a_sentence(options, sentence):
    with pytest.raises(PeerWattError, match=sentence):
        dispatch(["speed", *options])


@pytest.mark.slow
def test_an_installation_is_measured_against_itself():
    peerwatt = os.path.join(os.path.dirname(sys.executable), "peerwatt")
    found = speed.compare(peerwatt, "pilot-v1", rounds=6, margin=0.5)
    assert found.outcome == "no worse"
    assert all(ratio.base > 1e4 for ratio in found.ratios)
