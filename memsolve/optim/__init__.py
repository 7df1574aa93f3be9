"""Muon and its relatives, and Newton's method; SGD, Adam and others come from torch."""

from memsolve.optim.muon import Muon
from memsolve.optim.muon_groups import split_params
from memsolve.optim.newton import Newton, NoProgressWarning
from memsolve.optim.spectral import Kaon, RandomSpectrum, SpectralPower
from memsolve.optim.theorem_muon import TheoremMuon
from memsolve.optim.whitened_muon import WhitenedMuon

__all__ = [
    "Kaon",
    "Muon",
    "Newton",
    "NoProgressWarning",
    "RandomSpectrum",
    "SpectralPower",
    "TheoremMuon",
    "WhitenedMuon",
    "split_params",
]
