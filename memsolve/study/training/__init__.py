"""Studies of training runs: their grid, tuning and trajectories, and `dynamics`."""
