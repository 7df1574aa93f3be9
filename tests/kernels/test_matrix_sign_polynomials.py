"""Schedules: each fit is the best possible, and each composition keeps its promise."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from memsolve_kernels.errors import RangeError
from memsolve_kernels.matrix_sign import STOCK, Polynomial, Schedule, minimax
from memsolve_kernels.matrix_sign.polynomials import fit


@pytest.mark.parametrize("degree", [3, 5])
@pytest.mark.parametrize("low", [1e-2, 0.024, 0.1, 0.3, 0.9, 0.99])
def test_fit_equioscillates_which_proves_it_optimal(degree: int, low: float) -> None:
    high = 1.7
    polynomial = fit(low * high, high, degree)
    grid = np.linspace(low * high, high, 2_001)
    error = polynomial(grid) - 1
    extrema = np.flatnonzero(np.diff(np.sign(np.diff(error)))) + 1
    at_extrema = error[[0, *extrema, -1]]
    assert len(at_extrema) == (degree + 1) // 2 + 1
    signs = (-1.0) ** np.arange(1, len(at_extrema) + 1)
    level = np.abs(error).max()
    np.testing.assert_allclose(at_extrema * signs, level, rtol=1e-3)


@pytest.mark.parametrize("degree", [3, 5])
def test_fit_tends_to_newton_schulz(degree: int) -> None:
    limit = {3: (1.5, -0.5, 0.0), 5: (1.875, -1.25, 0.375)}[degree]
    np.testing.assert_allclose(fit(1 - 1e-9, 1.0, degree), limit)
    np.testing.assert_allclose(fit(1 - 1e-4, 1.0, degree), limit, rtol=1e-3)


def test_construction_gives_the_published_polar_express() -> None:
    low, high, cushion = 1e-3, 1.0, 0.02407327424182761
    for published in STOCK["polar-express"].polynomials[:-1]:
        raw = fit(max(low, cushion * high), high)
        ends = raw(np.array([low, high]))
        if cushion * high > low:
            raw = Polynomial(*(2 / ends.sum() * k for k in raw))
        low, high = float(raw(np.array([low]))[0]), 2 - float(raw(np.array([low]))[0])
        margin = np.array([1.01, 1.01**3, 1.01**5])
        np.testing.assert_allclose(raw, np.array(published) * margin, rtol=1e-6)


@pytest.mark.parametrize("degree", [3, 5])
@pytest.mark.parametrize("error", [1e-15, 1e-7, 1e-2])
@pytest.mark.parametrize("lower", [1e-15, 1e-7, 1e-3, 0.2, 0.999])
def test_minimax_reaches_its_band(lower: float, error: float, degree: int) -> None:
    schedule = minimax(lower, error, degree=degree)
    low, high = schedule.band()
    rounding = 1e-15
    assert 1 - error - rounding <= low <= high <= 1 + error + rounding
    if len(schedule) > 1:
        before = schedule.take(len(schedule) - 1).band()
        assert max(1 - before[0], before[1] - 1) > error / 2


def test_minimax_needs_fewer_steps_than_fixed_schedules() -> None:
    ours = minimax(1e-3, 1e-3)
    for name in ("newton-schulz-3", "newton-schulz-5"):
        low, _ = STOCK[name].take(len(ours)).band(1e-3)
        assert low < 0.5
    low, _ = STOCK["muon"].take(len(ours)).band(1e-3)
    assert low < 0.9


def test_margin_keeps_slightly_larger_singular_values_bounded() -> None:
    low, high = minimax(1e-6, 1e-3).band(upper=1.005)
    assert low > 1 - 1e-3
    assert high < 1 + 1e-3


def test_take_cuts_or_repeats_the_last() -> None:
    schedule = STOCK["polar-express"]
    assert schedule.take(3).polynomials == schedule.polynomials[:3]
    assert schedule.take(10).polynomials[7:] == (schedule.polynomials[-1],) * 3
    assert minimax(1e-4) is minimax(1e-4)


def test_bands_print_and_plot() -> None:
    text = str(STOCK["muon"])
    assert text.startswith("muon: 5 steps take [1.0e-03, 1] to [0.4705")
    assert "3.444500000000" in text
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    STOCK["muon"].plot(axes)
    x, y = np.asarray(axes.lines[0].get_data())
    np.testing.assert_allclose(y, STOCK["muon"](x))


@pytest.mark.parametrize(
    "call",
    [
        lambda: minimax(0.0),
        lambda: minimax(1.0),
        lambda: minimax(float("nan")),
        lambda: minimax(1e-3, 0.0),
        lambda: minimax(1e-3, degree=7),
        lambda: fit(1.0, 0.5),
        lambda: STOCK["muon"].take(0),
    ],
)
def test_arguments_out_of_range_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(RangeError, match="expected"):
        call()


def test_only_a_promise_is_extended_to_a_rank() -> None:
    short = minimax(1e-3, 1e-2, degree=3)
    longer = replace(short, wide_steps=1).for_rank(100)
    assert longer.polynomials == minimax(1e-4, 1e-2, degree=3).polynomials
    assert longer.wide_steps == 1
    assert short.for_rank(1) == short
    assert replace(short, name="mine").for_rank(100).name == "mine"
    own = Schedule("own", STOCK["newton-schulz-3"].polynomials, 0.1, error=0.1)
    for fixed in (STOCK["muon"], short.take(4), own):
        assert fixed.for_rank(100) is fixed
