"""The cheapest schedule that resolves a share of the singular values of all matrices."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from memsolve_kernels.errors import InputError

from memsolve.spectrum.schedules import (
    ScheduleOption,
    Target,
    format_dtype,
    resolved_share,
    schedules,
)
from memsolve.spectrum.singular_values import Spectrum, pool_values
from memsolve.spectrum.verify import Verification, decompose, verify

HARDEST_LEVEL = 0.1
"""Rounding costs most where many singular values are small."""


class CertifiedSchedule(NamedTuple):
    """The schedule that is chosen, with what is known of it.

    Attributes:
        option: the schedule.
        share: of all singular values that it resolves in exact arithmetic.
        rounding_loss: share that rounding costs the hardest matrix.
        hardest: the matrix on which it was verified: the one with the smallest 10% quantile.
        verification: on that matrix.
    """

    option: ScheduleOption
    share: float
    rounding_loss: float
    hardest: Spectrum
    verification: Verification

    @property
    def share_after_rounding(self) -> float:
        """The share of all if rounding cost every matrix as much as the hardest."""
        return max(0.0, self.share - self.rounding_loss)


class UnresolvedError(InputError):
    """No schedule resolves the share in the dtype."""


def choose(
    spectra: Sequence[Spectrum],
    target: Target,
    device: str,
    progress: Callable[[str], object] = lambda _: None,
) -> CertifiedSchedule:
    """The first of `schedules` that meets the target on the hardest matrix after rounding, too.

    Args:
        spectra: of all matrices, each with a singular value above its floor.
        target: of the choice.
        device: to verify on.
        progress: takes the code of each schedule before it is verified.

    Raises:
        UnresolvedError: names the best that there is.
    """
    values = pool_values(spectra)
    sizes = [spectrum.matrix.size for spectrum in spectra]
    hardest = min(spectra, key=lambda spectrum: spectrum.quantile(HARDEST_LEVEL))
    decomposition = decompose(hardest.matrix, device)
    best: CertifiedSchedule | None = None
    for option in schedules(values, sizes, target):
        progress(option.code)
        verification = verify(decomposition, option.schedule, target)
        exact = resolved_share(option.schedule, hardest.values, target.tolerance)
        result = CertifiedSchedule(
            option,
            resolved_share(option.schedule, values, target.tolerance),
            max(0.0, exact - verification.share),
            hardest,
            verification,
        )
        if result.share_after_rounding >= target.share:
            return result
        if best is None or result.share_after_rounding > best.share_after_rounding:
            best = result
    raise _unresolved(best, target)


def _unresolved(best: CertifiedSchedule | None, target: Target) -> UnresolvedError:
    wanted = f"{target.share:.2%} of the singular values in {format_dtype(target.dtype)}"
    if best is None:
        return UnresolvedError(
            f"no schedule resolves {wanted}, as some are too small; give a smaller --share"
        )
    return UnresolvedError(
        f"no schedule resolves {wanted}: the best, {best.option.code}, resolves "
        f"{best.share:.2%} but for rounding, which costs {best.hardest.matrix.name} "
        f"{best.rounding_loss:.2%}; give a smaller --share, or --dtype float32"
    )
