"""The leaderboard: a static page built from result records, without a server and without network."""
