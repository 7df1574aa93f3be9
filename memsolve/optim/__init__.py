"""Optimizers that store facts: Muon and Newton's method; SGD, Adam and the rest are torch's."""

from memsolve.optim.muon import Muon
from memsolve.optim.newton import Newton, NoProgressWarning

__all__ = ["Muon", "Newton", "NoProgressWarning"]
