"""The tasks that the environment is tested on."""

import pytest

from community.cards import shipped, small_task


@pytest.fixture(scope="module", params=["pilot-v1", "fontana-v1", "small-v1"])
def task(request, tmp_path_factory):
    if request.param == "small-v1":
        return small_task(tmp_path_factory.mktemp("small"))
    return shipped(request.param)
