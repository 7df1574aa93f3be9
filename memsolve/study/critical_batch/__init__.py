"""The critical batch size of training, from races to a target at every batch size."""
