"""Odd polynomials whose composition drives every singular value to one, and their error.

A Newton-Schulz step maps a singular value `x` to `a x + b x^3 + c x^5`. A schedule is a sequence of
such steps. `minimax` composes, step by step, the polynomial that is closest to one over the
interval in which the singular values then lie (the construction of *The Polar Express*, Amsel,
Persson, Musco and Gower 2025, arXiv 2505.16932), so that the band in which they end can be
computed in advance. `STOCK` has widely used fixed schedules for comparison.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsolve_kernels.arguments import parse_int
from memsolve_kernels.errors import RangeError
from memsolve_kernels.modes import untraced

_CUSHION = 0.024
_MARGIN = 0.01
_EPS = float(np.finfo(np.float64).eps)


class Polynomial(NamedTuple):
    """The odd polynomial `a x + b x^3 + c x^5`."""

    a: float
    b: float
    c: float = 0.0

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate at `x`, elementwise."""
        square = x * x
        return x * (self.a + square * (self.b + square * self.c))


@dataclass(frozen=True)
class Schedule:
    """Polynomials to apply in turn to singular values in `[lower, 1]`.

    Attributes:
        name: label in tables and figures.
        polynomials: one per step.
        lower: smallest singular value to resolve, relative to the largest.
        wide_steps: number of leading steps in the next wider dtype.
        error: largest distance from one at which `[lower, 1]` ends; None without such a bound.
    """

    name: str
    polynomials: tuple[Polynomial, ...]
    lower: float
    wide_steps: int = 0
    error: float | None = None

    def __len__(self) -> int:
        return len(self.polynomials)

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The image of singular values `x`, in exact arithmetic."""
        for polynomial in self.polynomials:
            x = polynomial(x)
        return x

    def take(self, steps: int) -> "Schedule":
        """The first `steps` steps; if there are fewer, the last polynomial is repeated."""
        steps = parse_int("steps", steps, 1)
        padding = repeat(self.polynomials[-1], max(0, steps - len(self)))
        polynomials = (*self.polynomials[:steps], *padding)
        return replace(self, polynomials=polynomials, error=None)

    def for_rank(self, rank: int) -> "Schedule":
        """The schedule with the same error for matrices of this rank, scaled by Frobenius norm.

        That norm is up to `sqrt(rank)` times the largest singular value, and the scaled singular
        values are smaller by that factor. Only schedules of `minimax` change.
        """
        if self.error is None:
            return self
        degree = 5 if any(polynomial.c for polynomial in self.polynomials) else 3
        if self.polynomials != minimax(self.lower, self.error, degree=degree).polynomials:
            return self
        longer = minimax(self.lower / rank**0.5, self.error, degree=degree)
        return replace(longer, name=self.name, wide_steps=self.wide_steps)

    @property
    def slope(self) -> float:
        """The growth factor of the smallest singular values, which is the largest of all."""
        return math.prod(polynomial.a for polynomial in self.polynomials)

    def split(self, steps: int) -> "tuple[Schedule, Schedule]":
        """The first `steps` steps and the rest; either may be empty."""
        first, rest = self.polynomials[:steps], self.polynomials[steps:]
        return (
            replace(self, polynomials=first, error=None),
            replace(self, polynomials=rest, error=None),
        )

    def band(self, lower: float | None = None, upper: float = 1.0) -> tuple[float, float]:
        """Smallest and largest image of `[lower, upper]` (default: the schedule's own interval).

        Taken over a geometric grid of 20 000 points; `print(schedule)` shows it, `plot` draws it.
        """
        image = self(np.geomspace(lower or self.lower, upper, 20_000))
        return float(image.min()), float(image.max())

    def plot(self, axes: Any) -> None:
        """Plot the image of `[lower / 10, 1]` on matplotlib `axes`, over a logarithmic abscissa."""
        x = np.geomspace(self.lower / 10, 1, 2_000)
        axes.semilogx(x, self(x), label=f"{self.name}, {len(self)} steps")

    def __str__(self) -> str:
        low, high = self.band()
        rows = [f"  {p.a: .12f} {p.b: .12f} {p.c: .12f}" for p in self.polynomials]
        head = (
            f"{self.name}: {len(self)} steps take [{self.lower:.1e}, 1] to [{low:.6g}, {high:.6g}]"
        )
        return "\n".join([head, *rows])


@untraced  # its NumPy must not be traced
@cache
def minimax(lower: float, error: float = 1e-7, *, degree: int = 5) -> Schedule:
    """The greedy minimax schedule that takes `[lower, 1]` into `[1 - error, 1 + error]`.

    Each step is the best polynomial on the interval reached so far, widened at its upper end by
    one percent of its width against rounding. The lower end used in the fit is never below
    2.4 percent of the upper: the unrestricted optimum would send middling singular values as far
    down as the smallest, where rounding in low precision destroys them (Polar Express, section 4).

    Args:
        lower: smallest singular value to resolve, relative to the largest; in (0, 1).
        error: largest deviation from one that may remain; at least four float64 roundings.
        degree: 3 or 5, of each polynomial.

    Raises:
        RangeError: an argument outside its range.
    """
    if not 0 < lower < 1:
        raise RangeError(f"lower is {lower}; expected a number in (0, 1)")
    if not 4 * _EPS <= error < 1:
        raise RangeError(f"error is {error}; expected a number in [{4 * _EPS:.1e}, 1)")
    low, high = lower, 1.0
    polynomials: list[Polynomial] = []
    while not polynomials or max(1 - low, high - 1) > error:
        widened = high + _MARGIN * (high - low)
        fitted = fit(max(low, _CUSHION * widened), widened, degree)
        low, high = _image(fitted, low, widened)
        centre = 2 / (low + high)
        polynomials.append(Polynomial(*(centre * coefficient for coefficient in fitted)))
        low, high = centre * low, centre * high
    return Schedule(f"minimax, degree {degree}", tuple(polynomials), lower, error=error)


@untraced
@cache
def gentle(lower: float, error: float) -> Schedule:
    """The first minimax schedule that lets no singular value grow by more than `1 / lower`.

    A minimax schedule raises what lies below its bound too, by up to six times the inverse of the
    bound. This one has a bound somewhat above `lower`, in steps of a fourth of an octave: values up
    to `lower` grow in proportion and remain below one, those above eight times that end within
    `error` of one.
    """
    bound = lower
    while (schedule := minimax(bound, error)).slope * lower > 1:
        bound *= 2**0.25
    return schedule


def fit(low: float, high: float, degree: int = 5) -> Polynomial:
    """The odd polynomial of this degree that is nearest to one on `[low, high]` (uniform norm).

    A Remez exchange in float64: solve for the polynomial whose error alternates in sign with equal
    size at the current points, then move the inner points to the extrema of that error. As
    `low / high` approaches one, the limit is the Newton-Schulz polynomial of the degree.

    Raises:
        RangeError: a degree other than 3 or 5, or bounds that are not `0 < low <= high`.
    """
    if degree not in (3, 5):
        raise RangeError(f"degree is {degree}; expected 3 or 5")
    if not 0 < low <= high:
        raise RangeError(f"the interval is [{low}, {high}]; expected 0 < low <= high")
    powers = np.arange(1, degree + 1, 2)
    ratio = low / high
    if ratio > 1 - 1e-5:  # beyond, rounding exceeds the alternating error
        coefficients = np.array(_NEWTON_SCHULZ[degree])
    else:
        points = np.linspace(ratio, 1.0, len(powers) + 1)
        signs = (-1.0) ** np.arange(len(points))
        level = np.inf
        for _ in range(100):
            system = np.column_stack([points[:, None] ** powers, signs])
            *solved, new_level = np.linalg.solve(system, np.ones(len(points)))
            coefficients = np.array(solved)
            squares = np.roots((coefficients * powers)[::-1])
            points[1:-1] = np.sort(np.sqrt(squares.real))
            if abs(new_level - level) <= 1e-15:
                break
            level = new_level
    return Polynomial(*(coefficients / high**powers).tolist())


def _image(polynomial: Polynomial, low: float, high: float) -> tuple[float, float]:
    """Smallest and largest value on `[low, high]`: at its ends or where the derivative vanishes."""
    a, b, c = polynomial
    squares = np.roots([5 * c, 3 * b, a])
    inner = np.sqrt(squares[np.isreal(squares) & (squares.real > 0)].real)
    points = np.array([low, high, *inner[(inner > low) & (inner < high)]])
    values = polynomial(points)
    return float(values.min()), float(values.max())


_NEWTON_SCHULZ = {3: (1.5, -0.5), 5: (1.875, -1.25, 0.375)}

# The eight polynomials that the Polar Express paper prints (its listing 1), and their margin.
_POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)


def _with_margin(coefficients: tuple[float, float, float], margin: float) -> Polynomial:
    a, b, c = coefficients
    return Polynomial(a / margin, b / margin**3, c / margin**5)


STOCK = {
    "muon": Schedule("muon", (Polynomial(3.4445, -4.7750, 2.0315),) * 5, 1e-3),
    "newton-schulz-3": Schedule("newton-schulz-3", (Polynomial(*_NEWTON_SCHULZ[3]),) * 20, 1e-3),
    "newton-schulz-5": Schedule("newton-schulz-5", (Polynomial(*_NEWTON_SCHULZ[5]),) * 14, 1e-3),
    "polar-express": Schedule(
        "polar-express",
        (
            *(_with_margin(step, 1.01) for step in _POLAR_EXPRESS[:-1]),
            Polynomial(*_POLAR_EXPRESS[-1]),
        ),
        1e-3,
    ),
}
