"""The leaderboard: a ranking of optimizers that are tuned with one budget."""
