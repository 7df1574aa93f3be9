"""Benchmarks: one registry of cases, and everything that is made from it."""
