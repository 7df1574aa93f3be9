"""The critical batch size of training: races to a target at every batch size."""
