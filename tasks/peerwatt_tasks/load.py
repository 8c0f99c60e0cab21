"""Load the cards that come with PeerWatt."""

from pathlib import Path

from peerwatt.community import Task, load_card

CARDS = Path(__file__).parent / "cards"


def pilot_v1() -> Task:
    """Return the task of `cards/pilot-v1.toml`."""
    return load_card(CARDS / "pilot-v1.toml")


def fontana_v1() -> Task:
    """Return the task of `cards/fontana-v1.toml`."""
    return load_card(CARDS / "fontana-v1.toml")
