"""What critics foretell of their cost is at least what they come to."""

from functools import partial

import numpy as np
import pytest
from asking import ask, critic, markets, needs_litellm
from fake_server import FakeServer, rule

from peerwatt.fairness.session import Forecast
from peerwatt.plugins.texts import from_text
from peerwatt_critics.calls.forecast import MOST_HOMES, questions
from peerwatt_critics.distilled import DistilledCritic
from peerwatt_critics.llm import LlmCritic
from peerwatt_critics.openai_http import OpenaiHttpCritic

PRICED = {"price_in": 1.0, "price_out": 2.0}


def largest(count):
    """Slots of as many homes as the forecast has room for, all at work."""
    slots = markets(count)
    reach = MOST_HOMES // 4
    fields = {
        name: np.repeat(getattr(slots, name), reach, axis=1) / 7
        for name in slots._fields
        if getattr(slots, name).ndim == 2
    }
    volume = fields["sold"].sum(axis=1)
    return slots._replace(**fields, volume=volume)


@pytest.mark.parametrize("options", [{}, {"prompt": "summary-v1"}, {"rationale": True}])
def test_it_is_what_the_longest_questions_reserve_or_more(options, tmp_path):
    scale = 5 if options.get("prompt") == "summary-v1" else 100
    with FakeServer(answer=partial(rule, scale=scale)) as server:
        asking = critic("openai-http", server.url, cache="none", **PRICED | options)
        foretold = asking.forecast(5)
        ask(asking, tmp_path, slots=largest(5))
        sent = [sum(len(text["content"].encode()) for text in s.messages) for s in server.seen]
    assert foretold.calls == 5 == len(sent)
    assert sum(sent) < foretold.prompt_tokens < 2.5 * sum(sent)
    assert foretold.completion_tokens == 5 * 160
    dollars = foretold.prompt_tokens / 1e6 + 2 * foretold.completion_tokens / 1e6
    assert foretold.dollars == pytest.approx(dollars)


def test_caps_hold():
    def foretold(**options):
        return OpenaiHttpCritic(model="m", **PRICED | options).forecast(1000)

    whole = foretold()
    assert foretold(max_calls=10) == OpenaiHttpCritic(model="m", **PRICED).forecast(10)
    few = foretold(max_tokens=5000)
    assert few.prompt_tokens + few.completion_tokens == 5000
    assert foretold(max_dollars=0.5) == Forecast(
        whole.calls, whole.prompt_tokens, whole.completion_tokens, 0.5
    )
    assert foretold(max_calls=0) == Forecast()


def test_unknown_prices_stay_unknown_where_anybody_is_asked():
    unknown = OpenaiHttpCritic(model="m")
    assert unknown.forecast(1).dollars is None
    assert unknown.forecast(0) == Forecast()


@pytest.mark.parametrize(("every", "share"), [(1, 1.0), (7, 1.0), (1, 0.01), (3, 0.4)])
def test_no_more_is_drawn_than_foretold(every, share):
    most = questions(10_000, every, share)
    drawn = np.random.default_rng(0).binomial(-(-10_000 // every), share, 10_000)
    assert drawn.max() <= most <= -(-10_000 // every)
    assert most <= 1.7 * 10_000 / every * share + 6


@needs_litellm
def test_litellm_knows_prices_without_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert LlmCritic(model="openai/gpt-4o-mini").forecast(100).dollars > 0
    assert LlmCritic(model="openai/nobody-knows-it").forecast(100).dollars is None
    elsewhere = LlmCritic(model="openai/gpt-4o-mini", api_base="http://127.0.0.1:1/v1")
    assert elsewhere.forecast(100).dollars is None


def test_critics_made_of_others_foretell_theirs():
    asking = OpenaiHttpCritic(model="m", max_calls=30, **PRICED)
    text = "openai-http:model=m,max_calls=30,price_in=1,price_out=2"
    _, ensemble = from_text("critic", f'ensemble:{{"members": ["rule", "{text}"], "repeats": 4}}')
    assert ensemble.forecast(5) == asking.forecast(20)
    assert ensemble.forecast(50).calls == 30
    assert DistilledCritic(teacher=text).forecast(1000) == asking.forecast(10)
    assert DistilledCritic().forecast(1000) == Forecast()
