"""Muon and Newton's method; SGD, Adam and others come from torch."""

from memsolve.optim.muon import Muon
from memsolve.optim.newton import Newton, NoProgressWarning

__all__ = ["Muon", "Newton", "NoProgressWarning"]
