"""What a study concludes from its results: estimates, fits, the summary."""
