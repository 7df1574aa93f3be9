"""Optimizers of 2025 and 2026 that the packages lack: a page of code each, after their papers.

They step matrices, hold their settings in parameter groups, and have no weight decay. Polar factors
are exact (`memsolve_kernels.matrix_sign`), where the papers iterate five times.
"""

from memsolve.examples.optimizers.ada_muon import AdaMuon
from memsolve.examples.optimizers.dion import Dion
from memsolve.examples.optimizers.kl_soap import KLSOAP
from memsolve.examples.optimizers.muon_h import MuonH
from memsolve.examples.optimizers.newton_muon import NewtonMuon
from memsolve.examples.optimizers.normalized_sgd import NormalizedSGD

__all__ = ["KLSOAP", "AdaMuon", "Dion", "MuonH", "NewtonMuon", "NormalizedSGD"]
