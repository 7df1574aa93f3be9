"""The studies: every `Study` object of a module here is a command of its name."""

from memsolve.engine import Fit, Grid, Summary
from memsolve.study.critical_batch.critical_batch import critical_batch
from memsolve.study.critical_batch.grid import RaceGrid
from memsolve.study.critical_batch.noise_scale import noise_scale
from memsolve.study.leaderboard.grid import LeaderboardGrid
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.one_step.anisotropy import anisotropy
from memsolve.study.one_step.anisotropy_grid import AnisotropyGrid
from memsolve.study.one_step.capacity import capacity
from memsolve.study.one_step.damping import damping
from memsolve.study.one_step.precision import precision
from memsolve.study.one_step.saturation import saturation
from memsolve.study.one_step.spectral_powers import spectral_powers
from memsolve.study.rates.grid import RatesGrid
from memsolve.study.rates.rates import rates
from memsolve.study.registry import find, load, studies
from memsolve.study.training.dynamics import dynamics
from memsolve.study.training.grid import TrainingGrid

__all__ = [
    "AnisotropyGrid",
    "Fit",
    "Grid",
    "LeaderboardGrid",
    "RaceGrid",
    "RatesGrid",
    "Summary",
    "TrainingGrid",
    "anisotropy",
    "capacity",
    "critical_batch",
    "damping",
    "dynamics",
    "find",
    "leaderboard",
    "load",
    "noise_scale",
    "precision",
    "rates",
    "saturation",
    "spectral_powers",
    "studies",
]
