"""The cheapest schedule that resolves a share of the singular values of all matrices.

In exact arithmetic its share follows from the singular values. What rounding costs is measured: the
matrices, ordered by their 10% quantiles, are cut into strata, and the first of each, on which
rounding costs most, stands for the others.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from memsolve_kernels.errors import InputError

from memsolve.spectrum.schedules import (
    ScheduleOption,
    Target,
    format_dtype,
    resolved_share,
    schedule_options,
)
from memsolve.spectrum.singular_values import Spectrum, pool_values
from memsolve.spectrum.verify import Verification, decompose, verify

UNVERIFIED = Verification(1.0, 0.0, 0.0, 0.0, 0.0)


class Stratum(NamedTuple):
    """Matrices of which one is verified.

    Attributes:
        representative: the one with the smallest 10% quantile.
        num_values: singular values of all.
    """

    representative: Spectrum
    num_values: int


class CertifiedSchedule(NamedTuple):
    """A schedule with what is known of it.

    Attributes:
        option: the schedule.
        share: of all singular values that it resolves in exact arithmetic.
        rounding_loss: share of all that rounding costs, measured.
        worst: the matrix of which rounding costs most.
        verification: on that matrix.
    """

    option: ScheduleOption
    share: float
    rounding_loss: float
    worst: Spectrum
    verification: Verification

    @property
    def share_after_rounding(self) -> float:
        """The share of all singular values that it resolves in the dtype."""
        return max(0.0, self.share - self.rounding_loss)


class UnresolvedError(InputError):
    """No schedule resolves the share in the dtype."""


def stratify(spectra: Sequence[Spectrum], number: int) -> list[Stratum]:
    """So many strata of matrices, or one for each if there are fewer."""
    ordered = sorted(spectra, key=lambda spectrum: spectrum.quantile(0.1))
    ends = np.linspace(0, len(ordered), min(number, len(ordered)) + 1).round().astype(int)
    return [
        Stratum(ordered[first], sum(len(each.values) for each in ordered[first:last]))
        for first, last in pairwise(ends)
    ]


def choose(
    spectra: Sequence[Spectrum],
    target: Target,
    strata: Sequence[Stratum],
    device: str,
    progress: Callable[[str], object] = lambda _: None,
) -> CertifiedSchedule:
    """The cheapest schedule that meets the target after rounding.

    Args:
        spectra: of all matrices, each with a singular value above its floor.
        target: of the choice.
        strata: of the matrices.
        device: to verify on.
        progress: takes the name of each matrix that has been verified.

    Raises:
        UnresolvedError: names the best that there is.
    """
    values = pool_values(spectra)
    sizes = [spectrum.matrix.size for spectrum in spectra]
    results = [
        CertifiedSchedule(
            option,
            resolved_share(option.schedule, values, target.tolerance),
            0.0,
            strata[0].representative,
            UNVERIFIED,
        )
        for option in schedule_options(values, sizes, target)
    ]
    for stratum in strata:
        weight = stratum.num_values / len(values)
        results = _after_rounding(results, stratum.representative, weight, target, device)
        progress(stratum.representative.matrix.name)
    for result in results:
        if result.share_after_rounding >= target.share:
            return result
    raise _unresolved(results, target)


def _after_rounding(
    results: Sequence[CertifiedSchedule],
    spectrum: Spectrum,
    weight: float,
    target: Target,
    device: str,
) -> list[CertifiedSchedule]:
    """The results, each with what rounding costs of a matrix that has this weight."""
    decomposition = decompose(spectrum.matrix, device)
    updated = []
    for result in results:
        schedule = result.option.schedule
        exact = resolved_share(schedule, spectrum.values, target.tolerance)
        verification = verify(decomposition, schedule, exact, target)
        loss = result.rounding_loss + weight * verification.loss
        result = result._replace(rounding_loss=loss)
        if _badness(verification) >= _badness(result.verification):
            result = result._replace(worst=spectrum, verification=verification)
        updated.append(result)
    return updated


def _badness(verification: Verification) -> tuple[float, float]:
    """By what matrices are compared: what rounding costs, then what is not resolved."""
    return verification.loss, 1 - verification.share


def _unresolved(results: Sequence[CertifiedSchedule], target: Target) -> UnresolvedError:
    wanted = f"{target.share:.2%} of the singular values in {format_dtype(target.dtype)}"
    if not results:
        return UnresolvedError(
            f"no schedule resolves {wanted}, as some are too small; give a smaller --share"
        )
    best = max(results, key=lambda result: result.share_after_rounding)
    return UnresolvedError(
        f"no schedule resolves {wanted}: the best, {best.option.code}, resolves {best.share:.2%} "
        f"less {best.rounding_loss:.2%} that rounding costs (most of {best.worst.matrix.name}); "
        f"give --share {np.floor(best.share_after_rounding * 1000) / 1000:g} or less, or another "
        "--dtype"
    )
