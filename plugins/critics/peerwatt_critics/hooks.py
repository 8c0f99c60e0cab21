"""Registers the critics of this package."""

from __future__ import annotations

from collections.abc import Iterable

from peerwatt.plugins.specs import CommandSpec, CriticSpec, hookimpl


@hookimpl
def peerwatt_critics() -> Iterable[CriticSpec]:
    """Return the critics of this package."""
    return (
        CriticSpec(
            name="none",
            factory="peerwatt_critics.none:NoCritic",
            summary="abstains: agents learn from money alone",
        ),
        CriticSpec(
            name="rule",
            factory="peerwatt_critics.rule:RuleCritic",
            summary="scores every slot by the closed forms of FTG, FBS, FPP and FTB",
        ),
        CriticSpec(
            name="constant",
            factory="peerwatt_critics.constant:ConstantCritic",
            summary="gives every slot the same score: a floor that critics must beat",
        ),
        CriticSpec(
            name="random",
            factory="peerwatt_critics.random_scores:RandomCritic",
            summary="draws every score at random: a floor that critics must beat",
            deterministic=False,
        ),
        CriticSpec(
            name="ensemble",
            factory="peerwatt_critics.ensemble:EnsembleCritic",
            summary="takes the median of several critics, or of one asked several times",
            deterministic=False,
            abstains=True,
        ),
        CriticSpec(
            name="distilled",
            factory="peerwatt_critics.distilled:DistilledCritic",
            summary="a small network learns a critic's scores from few slots and answers the rest",
            deterministic=False,
            abstains=True,
        ),
        CriticSpec(
            name="replay",
            factory="peerwatt_critics.replay:ReplayCritic",
            summary="gives the answers of an earlier run again, from its transcript",
            deterministic=False,
            abstains=True,
            asks=True,
        ),
        CriticSpec(
            name="llm",
            factory="peerwatt_critics.llm:LlmCritic",
            summary="asks any language model, through litellm",
            requires="peerwatt[llm]",
            deterministic=False,
            abstains=True,
            asks=True,
        ),
        CriticSpec(
            name="openai-http",
            factory="peerwatt_critics.openai_http:OpenaiHttpCritic",
            summary="asks a language model that speaks OpenAI's protocol, without litellm",
            requires="peerwatt[http]",
            deterministic=False,
            abstains=True,
            asks=True,
        ),
    )


@hookimpl
def peerwatt_commands() -> Iterable[CommandSpec]:
    """Return the commands about critics that ask a language model."""
    return (
        CommandSpec(
            name="critics prompts",
            factory="peerwatt_critics.commands:prompts",
            summary="List the prompts of critics that ask a language model, or show one.",
        ),
        CommandSpec(
            name="critics serve",
            factory="peerwatt_critics.commands:serve",
            summary="Serve a small language model on this computer, to try such critics out.",
            requires="peerwatt[local-llm]",
        ),
    )
