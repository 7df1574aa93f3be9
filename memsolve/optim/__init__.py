"""Muon, Muon with whitened inputs, and Newton's method; SGD and others come from torch."""

from memsolve.optim.muon import Muon
from memsolve.optim.newton import Newton, NoProgressWarning
from memsolve.optim.whitened_muon import WhitenedMuon

__all__ = ["Muon", "Newton", "NoProgressWarning", "WhitenedMuon"]
