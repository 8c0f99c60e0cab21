"""The leaderboard: a static page built from result records, without server and network."""
