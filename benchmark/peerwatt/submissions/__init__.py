"""Submissions: entries of the leaderboard, packed, validated unexecuted, and replayed."""
