"""Conformance suites: what PeerWatt expects of a plugin, law by law.

In a plugin's own repository the whole test file is

    import pytest

    @pytest.mark.peerwatt("algorithm", "my-trader")
    def test_conformance(peerwatt_check):
        peerwatt_check()

Without pytest, `peerwatt plugins doctor my-trader` says the same, and so does `examine`.

What is named here loads on first use: every pytest session imports this package for its plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peerwatt.testing.frame import (
        Check,
        Finding,
        NotApplicable,
        Subject,
        Violation,
        examine,
        suite,
    )

__all__ = ["Check", "Finding", "NotApplicable", "Subject", "Violation", "examine", "suite"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from peerwatt.testing import frame

    return getattr(frame, name)
