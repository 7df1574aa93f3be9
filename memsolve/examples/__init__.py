"""Worked examples: what the studies ask of a memory, asked of small models."""
