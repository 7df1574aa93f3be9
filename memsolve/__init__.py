"""Benchmark optimizers that store facts, against the laws of arXiv 2603.26554."""

from memsolve_kernels.errors import InputError

from memsolve.problem import AssociativeMemory, Batch, Curvature
from memsolve.recall import Recall

__all__ = ["AssociativeMemory", "Batch", "Curvature", "InputError", "Recall"]
