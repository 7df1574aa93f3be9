"""The exponent that theory gives a power of the singular values at the dimensions of a study."""

from collections.abc import Sequence

import numpy as np

from memsolve import theory
from memsolve.study.one_step.points import SpectralPoint


def finite_exponent(
    power: float | None, alpha: float, points: Sequence[SpectralPoint]
) -> float | None:
    """Slope in `d` of the expected counts at the dimensions of some points.

    None without a power, with one of -1/2 or below, and with a single dimension.
    """
    if power is None or power <= -1 / 2 or len(points) < 2:
        return None
    counts = [
        theory.spectral_power_count(power, alpha, point.dim, point.num_items) for point in points
    ]
    return float(np.polyfit(np.log([point.dim for point in points]), np.log(counts), 1)[0])
