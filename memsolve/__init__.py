"""Benchmark optimizers that store facts, against the laws of arXiv 2603.26554."""
