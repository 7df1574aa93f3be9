"""Muon and Newton's method; SGD, Adam and others come from torch."""

from memsolve.optim.muon import Muon
from memsolve.optim.newton import Newton, NoProgressWarning
from memsolve.optim.theorem_muon import TheoremMuon

__all__ = ["Muon", "Newton", "NoProgressWarning", "TheoremMuon"]
