"""The local model, served for the tests that ask it; they are slow, and skipped without it.

`make test-llm` installs the model and runs them.
"""

import pytest

from peerwatt_critics import local_model


@pytest.fixture(scope="session")
def address():
    """The address of the model's server, for `api_base`."""
    reason = local_model.missing()
    if reason is not None:
        pytest.skip(f"{reason}; `make test-llm` does both")
    with local_model.serving() as address:
        yield address
