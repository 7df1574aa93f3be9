"""Optimizers on top of the kernels; SGD, Adam and the rest are torch's own."""

from memsolve.optim.muon import Muon

__all__ = ["Muon"]
