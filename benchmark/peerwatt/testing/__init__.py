"""Conformance suites: what PeerWatt expects of a plugin, law by law.

In a plugin's own repository the whole test file is

    import pytest

    @pytest.mark.peerwatt("algorithm", "my-trader")
    def test_conformance(peerwatt_check):
        peerwatt_check()

Without pytest, `peerwatt plugins doctor my-trader` says the same, and so does `examine`.
"""

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
