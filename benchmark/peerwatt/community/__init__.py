"""Households, profiles, batteries, tariffs and the scenarios drawn from them."""

from peerwatt.community.card import Split, TaskCard, read_card
from peerwatt.community.profiles import ProfileTable, read_csv, read_npz
from peerwatt.community.task import Community, Task, load_card

__all__ = [
    "Community",
    "ProfileTable",
    "Split",
    "Task",
    "TaskCard",
    "load_card",
    "read_card",
    "read_csv",
    "read_npz",
]
