"""Worked examples: studies of models larger than the linear associative memory."""
