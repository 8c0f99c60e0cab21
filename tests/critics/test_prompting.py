"""Prompts: what a model is shown of a market, and which replies of it count."""

import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
from cleared import cleared
from decoding import SCORES, decode, rule_reply
from hypothesis import given
from hypothesis import strategies as st

from peerwatt.errors import PeerWattError
from peerwatt.fairness import SlotBatch, score_slots
from peerwatt.fairness.scores import HOUSEHOLD_FIELDS
from peerwatt.fairness.session import Presentation
from peerwatt_critics.prompting import InvalidReply, load_prompt, prompt_names
from peerwatt_critics.replies import Answer, render

PLAIN = Presentation()
PROMPTS = {name: load_prompt(name) for name in prompt_names()}
HOUSEHOLDS, SUMMARY = PROMPTS["households-v1"], PROMPTS["summary-v1"]
FLOOR = {"households": (0.01, 0.03, 0.025, 0.02), "summary": (0.11, 0.07, 0.11, 0.2)}
"""How far the scores of a market, read back from a view, may lie from those of the slot."""

each_prompt = pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
each_view = pytest.mark.parametrize(
    "prompt", [HOUSEHOLDS, SUMMARY], ids=[HOUSEHOLDS.view, SUMMARY.view]
)
INTEGER = st.integers(0, 100)


def request(prompt, texts, presentation=PLAIN, rationale=False):
    return prompt.request(texts, presentation=presentation, rationale=rationale, reply_tokens=100)


def asked(prompt, texts, presentation=PLAIN):
    return request(prompt, texts, presentation).messages[-1]["content"]


def join(slots):
    most = max(slot.surplus.shape[1] for slot in slots)

    def padded(name, array):
        return (
            np.pad(array, ((0, 0), (0, most - array.shape[1])))
            if name in HOUSEHOLD_FIELDS
            else array
        )

    named = [slot._asdict() for slot in slots]
    return SlotBatch(
        *(np.concatenate([padded(n, slot[n]) for slot in named]) for n in SlotBatch._fields)
    )


def one_slot(**changes):
    slot = HOUSEHOLDS_SAMPLE._asdict()
    return SlotBatch(**(slot | changes))


HOUSEHOLDS_SAMPLE = SlotBatch(
    feed_in=np.array([0.1]),
    retail=np.array([0.3]),
    reference=np.array([0.2]),
    surplus=np.array([[3.0, 1.0, 0.0, 0.0, 0.0]]),
    deficit=np.array([[0.0, 0.0, 1.0, 1.0, 0.0]]),
    offered=np.array([[2.0, 1.0, 0.0, 0.0, 0.0]]),
    demanded=np.array([[0.0, 0.0, 1.0, 0.5, 0.0]]),
    sold=np.array([[1.0, 0.5, 0.0, 0.0, 0.0]]),
    bought=np.array([[0.0, 0.0, 1.0, 0.5, 0.0]]),
    received=np.array([[0.2, 0.125, 0.0, 0.0, 0.0]]),
    paid=np.array([[0.0, 0.0, 0.2, 0.125, 0.0]]),
    volume=np.array([1.5]),
    mean_price=np.array([0.325 / 1.5]),
    price_deviation=np.array([0.02]),
)


def test_a_slot_is_told_in_percent_and_households_that_do_nothing_are_left_out():
    (text,) = HOUSEHOLDS.canonical(HOUSEHOLDS_SAMPLE)
    assert json.loads(text) == {
        "supply": 200,
        "demand": 100,
        "traded": 75,
        "price": 58,
        "spread": 10,
        "reference": 50,
        "sellers": [[25, 100, 50, 75], [75, 67, 33, 50]],
        "buyers": [[50, 50, 50, 75], [50, 100, 100, 50]],
    }


def test_a_summary_holds_five_numbers():
    (text,) = SUMMARY.canonical(HOUSEHOLDS_SAMPLE)
    assert text == ('{"traded":80,"uneven":20,"off":40,"bought":80,"price":60}')


@pytest.mark.parametrize("trade", [0.0, 1.0])
def test_a_single_seller_and_no_trade_are_told_as_null(trade):
    slot = one_slot(
        surplus=np.array([[3.0, 0.0, 0.0, 0.0, 0.0]]),
        sold=np.array([[trade, 0.0, 0.0, 0.0, 0.0]]),
        bought=np.array([[0.0, 0.0, trade, 0.0, 0.0]]),
        volume=np.array([trade]),
        mean_price=np.array([0.2 if trade else np.nan]),
        price_deviation=np.array([0.0 if trade else np.nan]),
    )
    full, summary = (
        json.loads(HOUSEHOLDS.canonical(slot)[0]),
        json.loads(SUMMARY.canonical(slot)[0]),
    )
    assert summary["uneven"] is None
    assert (full["price"] is None) == (summary["price"] is None) == (trade == 0)
    assert full["buyers"][0][2:] == [0, None]


@each_view
@given(
    slots=st.lists(cleared(), min_size=1, max_size=3),
    energy=st.sampled_from((1.0, 0.001, 3.0, 3.6e6, 0.7)),
    money=st.sampled_from((1.0, 100.0, 0.92, 7.3)),
    seed=st.integers(0, 2**32),
)
def test_equal_markets_have_equal_texts(prompt, slots, energy, money, seed):
    slots = join(slots)
    order = np.random.default_rng(seed).permutation(slots.surplus.shape[1])
    unit = {name: energy for name in (*HOUSEHOLD_FIELDS, "volume")} | {
        name: money for name in ("feed_in", "retail", "reference", "mean_price", "price_deviation")
    }
    unit |= {"received": energy * money, "paid": energy * money}
    twin = SlotBatch(**{name: array * unit[name] for name, array in slots._asdict().items()})
    twin = twin._replace(**{name: getattr(twin, name)[:, order] for name in HOUSEHOLD_FIELDS})
    assert prompt.canonical(twin) == prompt.canonical(slots)


@each_view
@given(slots=st.lists(cleared(), min_size=1, max_size=3))
def test_the_scores_follow_from_the_text(prompt, slots):
    slots = join(slots)
    raw = np.array(score_slots(slots))
    for index, text in enumerate(prompt.canonical(slots)):
        read = np.array(score_slots(decode(text)))[:, 0]
        expected = raw[:, index]
        if prompt.view == "households":
            assert np.array_equal(np.isnan(read), np.isnan(expected))
        error = np.abs(np.nan_to_num(read) - np.nan_to_num(expected))
        assert (error <= FLOOR[prompt.view]).all(), (text, read, expected)
        again = decode(asked(prompt, [text]))
        assert np.allclose(np.array(score_slots(again))[:, 0], read, equal_nan=True)


@each_view
@given(
    slots=st.lists(cleared(), min_size=1, max_size=4),
    order=st.integers(0, 2**40),
    backwards=st.booleans(),
)
def test_nothing_but_numbers_is_asked(prompt, slots, order, backwards):
    presentation = Presentation(order=order, backwards=backwards)
    text = asked(prompt, prompt.canonical(join(slots)), presentation)
    words = set(re.findall(r"[A-Za-z]+", re.sub(r'"[hm]\d+"', "", text)))
    assert words <= {
        *("supply", "demand", "traded", "price", "spread", "reference", "sellers", "buyers"),
        *("uneven", "off", "bought", "null"),
    }
    assert re.fullmatch(r'[a-z0-9{}\[\]":,.-]*', text)


def test_noise_of_floats_is_no_spread_and_tiny_trade_is_not_none():
    noisy = one_slot(price_deviation=np.array([3e-9]), surplus=HOUSEHOLDS_SAMPLE.surplus * 1e8)
    market = json.loads(HOUSEHOLDS.canonical(noisy)[0])
    assert market["spread"] == 0
    assert [row[2] for row in market["sellers"]] == [0.001, 0.001]


@given(slot=cleared(), order=st.integers(0, 5))
def test_ids_are_shuffled_and_hold_nothing(slot, order):
    (text,) = HOUSEHOLDS.canonical(slot)
    market = json.loads(asked(HOUSEHOLDS, [text], Presentation(order=order)))
    ids = [*market["sellers"], *market["buyers"]]
    assert sorted(ids) == sorted(f"h{n}" for n in range(1, len(ids) + 1))
    known = json.loads(text)
    for side in ("sellers", "buyers"):
        rows = list(market[side].values())
        assert sorted(rows, key=str) == sorted(known[side], key=str)


def test_another_order_puts_the_same_market_otherwise():
    (text,) = HOUSEHOLDS.canonical(HOUSEHOLDS_SAMPLE)
    put = [asked(HOUSEHOLDS, [text], Presentation(order=n)) for n in range(20)]
    assert len(set(put)) > 10
    assert put == [asked(HOUSEHOLDS, [text], Presentation(order=n)) for n in range(20)]
    ids = {next(iter(json.loads(one)["sellers"])) for one in put}
    assert len(ids) > 2, "the household that sells most always has the same id or place"


@pytest.mark.parametrize("note", ['x"},"m9":{', "a\nb\u2028c\x00", "Ü" * 5])
def test_a_note_stays_inside_its_strings(note):
    for prompt in PROMPTS.values():
        (text,) = prompt.canonical(HOUSEHOLDS_SAMPLE)
        plain = json.loads(asked(prompt, [text]))
        noted = json.loads(asked(prompt, [text], Presentation(note=note)))
        assert noted.pop("note") == note
        for side in {"sellers", "buyers"} & set(noted):
            noted[side] = {key.removesuffix(f" {note}"): row for key, row in noted[side].items()}
        assert noted == plain


@each_prompt
@pytest.mark.parametrize("rationale", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_examples_come_in_the_form_that_is_asked_for(prompt, count, rationale):
    texts = prompt.canonical(HOUSEHOLDS_SAMPLE) * count
    made = request(prompt, texts, rationale=rationale)
    assert made.reply_tokens == 100 * count
    assert made.messages[0]["role"] == "system"
    roles = [message["role"] for message in made.messages[1:]]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    for question, reply in zip(made.messages[1:-1:2], made.messages[2::2], strict=True):
        shown = json.loads(reply["content"])
        markets = shown if count > 1 else {"": shown}
        scores = np.nan_to_num(np.array(score_slots(decode(question["content"]))))
        for column, market in zip(scores.T, markets.values(), strict=True):
            assert ("rationale" in market) == rationale
            said = [market[name] / prompt.scale for name in SCORES]
            floor = np.array(FLOOR[prompt.view]) + 0.5 / prompt.scale
            assert (np.abs(said - column) <= floor).all()


@each_prompt
@pytest.mark.parametrize("rationale", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_the_schema_is_one_for_strict_modes(prompt, count, rationale):
    schema = prompt.schema(count, rationale)

    def objects(part):
        if isinstance(part, dict):
            if part.get("type") == "object":
                yield part
            for value in part.values():
                yield from objects(value)

    found = list(objects(schema))
    assert len(found) == (1 if count == 1 else 2)
    for part in found:
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])
    assert (
        {"m1", "m2"} <= set(schema["properties"]) if count == 2 else "ftg" in schema["properties"]
    )
    keywords = set(re.findall(r'"([a-zA-Z$]+)":', json.dumps(schema)))
    allowed = {"type", "properties", "required", "additionalProperties", "enum", "$ref", "$defs"}
    assert keywords - allowed <= {*SCORES, "rationale", "score", "market"}


@given(
    rows=st.lists(st.tuples(INTEGER, INTEGER, INTEGER, INTEGER), min_size=1, max_size=4),
    rationale=st.booleans(),
    backwards=st.booleans(),
)
def test_what_is_rendered_is_read_back(rows, rationale, backwards):
    why = "because" if rationale else None
    answers = [Answer(tuple(value / 100 for value in row), why) for row in rows]
    text = json.dumps(render(answers, 100, rationale))
    read = HOUSEHOLDS.parse(
        text,
        ["{}"] * len(rows),
        presentation=Presentation(backwards=backwards),
        rationale=rationale,
    )
    assert read == (answers[::-1] if backwards else answers)


@each_prompt
@pytest.mark.parametrize("backwards", [False, True])
def test_answers_belong_to_their_slots_whatever_the_order(prompt, backwards):
    slots = [
        HOUSEHOLDS_SAMPLE,
        one_slot(volume=np.array([0.0])),
        one_slot(mean_price=np.array([0.3])),
    ]
    texts = [prompt.canonical(slot)[0] for slot in slots]
    presentation = Presentation(backwards=backwards)
    reply = rule_reply(request(prompt, texts, presentation).messages, prompt.scale)
    answers = prompt.parse(reply, texts, presentation=presentation, rationale=False)
    alone = [
        prompt.parse(
            rule_reply(request(prompt, [text]).messages, prompt.scale),
            [text],
            presentation=PLAIN,
            rationale=False,
        )[0]
        for text in texts
    ]
    assert answers == alone
    assert len(set(answers)) == 3


GOOD = '{"ftg":1,"fbs":2,"fpp":3,"ftb":4}'


@pytest.mark.parametrize("text", [GOOD, f"\n {GOOD} \n", '{"ftb":4.0,"fpp":3,"fbs":2e0,"ftg":1}'])
def test_what_the_schema_allows_is_read(text):
    (answer,) = HOUSEHOLDS.parse(text, ["{}"], presentation=PLAIN, rationale=False)
    assert answer == Answer((0.01, 0.02, 0.03, 0.04), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not-json"),
        ("I cannot help with that.", "not-json"),
        ('{"ftg":1,"fbs":2,', "not-json"),
        ("<html><body>502</body></html>", "not-json"),
        ("[" * 3000, "not-json"),
        ('{"a":' * 600 + "1" + "}" * 600, "keys"),
        (f"Here you are: {GOOD}", "prose"),
        (f"```json\n{GOOD}\n```", "prose"),
        (f"{GOOD}{GOOD}", "prose"),
        ("[1,2,3,4]", "type"),
        ("null", "type"),
        ('{"ftg":1,"fbs":2,"fpp":3}', "keys"),
        ('{"ftg":1,"fbs":2,"fpp":3,"score":4}', "keys"),
        ('{"ftg":1,"fbs":2,"fpp":3,"ftb":4,"note":"x"}', "keys"),
        ('{"ftg":1,"fbs":2,"fpp":3,"ftb":4,"rationale":"x"}', "keys"),
        ('{"ftg":1,"fbs":2,"fpp":3,"ftb":4,"ftg":100}', "keys"),
        ("{}", "keys"),
        ('{"ftg":"1","fbs":2,"fpp":3,"ftb":4}', "type"),
        ('{"ftg":true,"fbs":2,"fpp":3,"ftb":4}', "type"),
        ('{"ftg":null,"fbs":2,"fpp":3,"ftb":4}', "type"),
        ('{"ftg":0.5,"fbs":2,"fpp":3,"ftb":4}', "type"),
        ('{"ftg":{"ftg":1},"fbs":2,"fpp":3,"ftb":4}', "type"),
        ('{"ftg":101,"fbs":2,"fpp":3,"ftb":4}', "range"),
        ('{"ftg":-1,"fbs":2,"fpp":3,"ftb":4}', "range"),
        ('{"ftg":NaN,"fbs":2,"fpp":3,"ftb":4}', "range"),
        ('{"ftg":-Infinity,"fbs":2,"fpp":3,"ftb":4}', "range"),
        ('{"ftg":1e999,"fbs":2,"fpp":3,"ftb":4}', "range"),
        (f'{{"ftg":{"9" * 3000},"fbs":2,"fpp":3,"ftb":4}}', "range"),
        (f'{{"m1":{GOOD}}}', "count"),
        (f'{{"m1":{GOOD},"m2":{GOOD}}}', "count"),
        (GOOD + " " * 10_000, "too-long"),
        ("9" * 10_000_000, "too-long"),
    ],
)
def test_hostile_replies_are_refused(text, reason):
    with pytest.raises(InvalidReply) as refused:
        HOUSEHOLDS.parse(text, ["{}"], presentation=PLAIN, rationale=False)
    assert refused.value.reason == reason
    assert len(refused.value.text) < 200 and refused.value.text.isprintable()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, "count"),
        (f'{{"m1":{GOOD}}}', "count"),
        (f'{{"m1":{GOOD},"m2":{GOOD},"m3":{GOOD}}}', "count"),
        (f'{{"m1":{GOOD},"m3":{GOOD}}}', "count"),
        (f'{{"m1":{GOOD},"m1":{GOOD}}}', "keys"),
        (f'{{"m1":{GOOD},"m2":{GOOD},"all":{GOOD}}}', "keys"),
        (f'{{"m1":{GOOD},"m2":[1,2,3,4]}}', "type"),
        (f'{{"m1":{GOOD},"m2":{{"ftg":1}}}}', "keys"),
        (f"[{GOOD},{GOOD}]", "type"),
    ],
)
def test_hostile_replies_to_two_markets_are_refused(text, reason):
    with pytest.raises(InvalidReply) as refused:
        HOUSEHOLDS.parse(text, ["{}", "{}"], presentation=PLAIN, rationale=False)
    assert refused.value.reason == reason


@pytest.mark.parametrize("rationale", ["1", "null", '["a"]'])
def test_a_rationale_is_text(rationale):
    text = GOOD.replace("{", f'{{"rationale":{rationale},')
    with pytest.raises(InvalidReply) as refused:
        HOUSEHOLDS.parse(text, ["{}"], presentation=PLAIN, rationale=True)
    assert refused.value.reason == "type"


def test_a_rationale_is_kept_as_one_short_line():
    text = GOOD.replace("{", '{"rationale":"a\\n\\u001b[31m' + "b" * 1000 + '",')
    (answer,) = HOUSEHOLDS.parse(text, ["{}"], presentation=PLAIN, rationale=True)
    assert answer.rationale.startswith("a ?[31mbbb")
    assert len(answer.rationale) <= 301


@given(text=st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_read_or_refused(text):
    with pytest.raises(InvalidReply):
        HOUSEHOLDS.parse(text, ["{}"], presentation=PLAIN, rationale=False)


@pytest.mark.parametrize("reason", ["prose", "truncated"])
def test_a_repair_adds_one_sentence_and_quotes_nothing(reason):
    made = request(HOUSEHOLDS, HOUSEHOLDS.canonical(HOUSEHOLDS_SAMPLE))
    again = HOUSEHOLDS.repair(made, InvalidReply(reason, "GIVE 100"))
    assert again.messages[:-1] == made.messages[:-1]
    asked_first, asked_again = made.messages[-1]["content"], again.messages[-1]["content"]
    assert asked_again.startswith(asked_first + "\n\nYour last reply ")
    assert "GIVE 100" not in asked_again
    assert replace(again, messages=made.messages) == made
    assert rule_reply(again.messages, 100) == rule_reply(made.messages, 100)


@pytest.mark.parametrize("name", sorted(set(SlotBatch._fields)))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e12, 1e300])
@each_prompt
def test_numbers_that_make_no_sense_are_refused(prompt, name, value):
    bad = getattr(HOUSEHOLDS_SAMPLE, name).copy()
    bad.flat[0] = value
    with pytest.raises(ValueError, match=name):
        prompt.canonical(one_slot(**{name: bad}))


def test_slots_that_cannot_be_judged_are_refused():
    with pytest.raises(ValueError, match="no trade is feasible"):
        HOUSEHOLDS.canonical(one_slot(deficit=np.zeros((1, 5))))
    with pytest.raises(ValueError, match="retail must lie above"):
        HOUSEHOLDS.canonical(one_slot(retail=np.array([0.1])))
    with pytest.raises(ValueError, match=r"slots.paid has the shape \(1, 4\)"):
        HOUSEHOLDS.canonical(one_slot(paid=np.zeros((1, 4))))
    none = SlotBatch(*(field[:0] for field in HOUSEHOLDS_SAMPLE))
    assert HOUSEHOLDS.canonical(none) == SUMMARY.canonical(none) == []


@each_prompt
def test_what_lies_far_out_is_told_within_fixed_limits(prompt):
    slots = one_slot(
        surplus=np.array([[1e9, 1e-9, 0.0, 0.0, 0.0]]),
        reference=np.array([-1e6]),
        mean_price=np.array([1e6]),
        paid=np.array([[0.0, 0.0, -1e6, 1e6, 0.0]]),
        sold=np.array([[1e9, 1e9, 0.0, 0.0, 0.0]]),
    )
    numbers = re.findall(r"-?[\d.]+", prompt.canonical(slots)[0])
    assert all(-1000 <= float(number) <= 100_000 and len(number) <= 6 for number in numbers)


def test_the_paraphrase_asks_the_same_in_other_words():
    other = load_prompt(HOUSEHOLDS.paraphrase)
    assert (other.view, other.scale, other.step) == (
        HOUSEHOLDS.view,
        HOUSEHOLDS.scale,
        HOUSEHOLDS.step,
    )
    assert other.examples == HOUSEHOLDS.examples
    assert other.paraphrase == HOUSEHOLDS.name
    assert other.digest != HOUSEHOLDS.digest
    lines = set(HOUSEHOLDS.system.splitlines()) & set(other.system.splitlines())
    assert not lines - {""}


@each_prompt
def test_a_prompt_can_be_read_by_people(prompt):
    told = prompt.told(rationale=True)
    assert prompt.digest in told and prompt.system.strip() in told
    for name in SCORES:
        assert f"\n{name}" in told or f"- {name}" in told


OWN = """
summary = "mine"
view = "households"
scale = 10
step = 0.1
system = "Judge."
batch = "Several."
rationale = "Say why."
paraphrase = "other.toml"

[[examples]]
feed_in = 0.1
retail = 0.3
surplus = [1.0, 2.0]
deficit = [3.0]
trades = [[1, 1, 0.5, 0.2]]
why = "half"
"""


def test_a_prompt_of_ones_own_is_used_by_its_path(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(OWN)
    prompt = load_prompt(str(file))
    assert (prompt.name, prompt.scale, prompt.step) == ("mine", 10, 0.1)
    assert prompt.paraphrase == str(tmp_path / "other.toml")
    assert [answer.scores for _, answer in prompt.examples] == [
        pytest.approx((1 / 6, 0.5, 1.0, 1 / 12))
    ]
    assert "33.3" in prompt.examples[0][0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("scale = 10\n", ""), "scale: field required"),
        (
            ("scale = 10", "scale = 500"),
            "scale: input should be less than or equal to 100, not 500",
        ),
        (("scale = 10", "scael = 10"), "scael: unknown key, expected one of summary, view, scale"),
        (('"households"', '"everything"'), "view: input should be 'households' or 'summary'"),
        (("step = 0.1", "step = 99"), "step: input should be less than or equal to 50, not 99"),
        (('"Judge."', '""'), "system: string should have at least 1 character"),
        (("scale = 10", "scale = "), "is not valid TOML"),
        (('"half"', '"half"\nscore = 1'), "examples.1.score: unknown key, expected one of feed_in"),
        (("[[1, 1, 0.5", "[[1, 2, 0.5"), "examples.1: there is no seller 1 or no buyer 2 to trade"),
        (("[[1, 1, 0.5", "[[0, 1, 0.5"), "examples.1.trades.1.1: input should be greater than"),
        (("0.5, 0.2]", "1.5, 0.2]"), "examples.1: a household trades more than its surplus"),
        (("0.5, 0.2]", "0.5, 0.4]"), "examples.1: the price 0.4 lies outside feed_in to retail"),
        (("[3.0]", "[0.0]"), "examples.1: "),
        (
            ("deficit = [3.0]", "deficit = [3.0]\noffered = [1.0]"),
            "examples.1: offered and demanded",
        ),
        (("retail = 0.3", "retail = nan"), "examples.1.retail: "),
    ],
)
def test_a_malformed_prompt_is_refused_in_one_sentence(tmp_path, change, sentence):
    assert change[0] in OWN
    file = tmp_path / "mine.toml"
    file.write_text(OWN.replace(*change))
    with pytest.raises(PeerWattError) as refused:
        load_prompt(str(file))
    told = str(refused.value)
    assert told.startswith(f"prompt {file}: ") and sentence in told
    assert told.endswith(".") and "\n" not in told and len(told) < 400


def test_prompts_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(PeerWattError, match=r"unknown prompt 'households-v2': did you mean"):
        load_prompt("households-v2")
    with pytest.raises(PeerWattError, match=r"cannot be read .No such file"):
        load_prompt(str(tmp_path / "absent.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(PeerWattError, match=r"cannot be read .Is a directory"):
        load_prompt(str(tmp_path / "folder.toml"))
    (tmp_path / "large.toml").write_text("# " + "x" * 70_000)
    with pytest.raises(PeerWattError, match="larger than 65,536 bytes"):
        load_prompt(str(tmp_path / "large.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PeerWattError, match="is not valid TOML"):
        load_prompt(str(tmp_path / "binary.toml"))


def test_prompts_that_are_no_files_or_nest_without_end_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(PeerWattError, match="is no regular file"):
        load_prompt(str(tmp_path / "pipe.toml"))
    (tmp_path / "deep.toml").write_text("a = " + "[" * 30_000)
    with pytest.raises(PeerWattError, match=r"deep\.toml: nests too deep"):
        load_prompt(str(tmp_path / "deep.toml"))
