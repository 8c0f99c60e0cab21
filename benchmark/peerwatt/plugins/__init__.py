"""Plugins: what they register, and how it is found."""

from peerwatt.plugins.specs import (
    AlgorithmSpec,
    CommandSpec,
    CriticSpec,
    PluginSpec,
    TaskSpec,
    hookimpl,
)

__all__ = ["AlgorithmSpec", "CommandSpec", "CriticSpec", "PluginSpec", "TaskSpec", "hookimpl"]
