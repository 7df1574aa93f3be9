"""Studies of whole training runs: tuning, trajectories, dynamics."""
