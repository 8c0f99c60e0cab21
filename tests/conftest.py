"""Settings of all tests."""

from hypothesis import settings

# No test is timed: the first example of a test may have to wait for a compiler.
settings.register_profile("peerwatt", deadline=None)
settings.load_profile("peerwatt")
