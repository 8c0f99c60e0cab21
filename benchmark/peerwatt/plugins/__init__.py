"""Plugins: what they register, and how it is found."""

from peerwatt.plugins.specs import (
    API_VERSION,
    AlgorithmSpec,
    CommandSpec,
    CriticSpec,
    MechanismSpec,
    PluginSpec,
    SinkSpec,
    TaskSpec,
    hookimpl,
)

__all__ = [
    "API_VERSION",
    "AlgorithmSpec",
    "CommandSpec",
    "CriticSpec",
    "MechanismSpec",
    "PluginSpec",
    "SinkSpec",
    "TaskSpec",
    "hookimpl",
]
