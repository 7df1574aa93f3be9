"""Muon, Newton's method and spectral powers; SGD, Adam and others come from torch."""

from memsolve.optim.muon import Muon
from memsolve.optim.newton import Newton, NoProgressWarning
from memsolve.optim.spectral import Kaon, RandomSpectrum, SpectralPower

__all__ = ["Kaon", "Muon", "Newton", "NoProgressWarning", "RandomSpectrum", "SpectralPower"]
