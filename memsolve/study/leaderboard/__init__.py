"""The leaderboard: optimizers tuned with one budget, and ranked."""
