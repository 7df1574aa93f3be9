"""Curves of many optimizers, of diverged runs, and against a swept setting."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from memsolve.engine.results.estimate import COUNT, SHARE, mean, mean_bands
from memsolve.environment import Environment
from memsolve.report.curves import band_legend, draw_mean, label_panels
from memsolve.report.drawing import COLORS, DESKTOP_WIDTH, MUTED, CurveStyle, figure_style
from memsolve.report.emphasis import is_own, optimizer_styles
from memsolve.report.sweep_figure import point_bars, sweep_figures, swept_settings
from tests.memsolve.report_cases import study

STEPS = np.arange(1.0, 11)


@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("scale", [COUNT, SHARE])
def test_bands_are_the_intervals_of_means(seeds: int, scale: object) -> None:
    values = np.random.default_rng(0).uniform(0, 1, (6, seeds))
    means, low, high = mean_bands(values, scale)  # type: ignore[arg-type]
    for row, bar in zip(values, zip(means, low, high, strict=True), strict=True):
        assert mean(row, scale).bar == pytest.approx(bar)  # type: ignore[arg-type]


def test_up_to_eight_optimizers_have_a_color_each() -> None:
    _, summary = study("capacity", 8)
    assert {style.color for style in optimizer_styles(summary).values()} == set(COLORS)


def test_of_many_optimizers_the_users_own_and_references_are_in_color() -> None:
    _, summary = study("capacity", 12)
    packages: Environment = dict.fromkeys(["heavyball", "pytorch-optimizer", "schedulefree"], 1)
    fits = [
        replace(fit, optimizer={0: "my_module.Mine"}.get(i, fit.optimizer))
        for i, fit in enumerate(summary.fits)
    ]
    summary = replace(summary, fits=fits, environment=packages)
    styles = optimizer_styles(summary)
    colored = {name for name, style in styles.items() if style.color != MUTED}
    assert colored == {"my_module.Mine", "muon", "newton"}
    assert len({styles[name].color for name in colored}) == 3
    chosen = optimizer_styles(summary, ["pytorch_optimizer.Kron"])
    assert chosen["pytorch_optimizer.Kron"].color == COLORS[0]
    assert chosen["my_module.Mine"].color == MUTED


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("muon:momentum=0.9", False),
        ("sgd (folder)", False),
        ("torch.optim.AdamW", False),
        ("memsolve.optim.SpectralPower:power=0.5", False),
        ("pytorch_optimizer.Kron", False),
        ("my_module:make", True),
        ("mine", True),
    ],
)
def test_the_users_own_optimizers_are_of_no_package(name: str, own: bool) -> None:
    assert is_own(name, {"pytorch-optimizer": "4.1"}) == own


def panels(scale: str, *curves: np.ndarray) -> tuple[Figure, Axes, dict[str, object]]:
    figure = Figure()
    axes = figure.subplots()
    for index, curve in enumerate(curves):
        axes.plot(STEPS, curve, color=COLORS[index], label=f"curve {index}")
    axes.set_yscale(scale)
    return figure, axes, dict(label_panels([axes]))


def is_inside(line: Line2D) -> bool:
    """Whether a line is a mark of the panel, not of a label beside it."""
    return float(np.max(line.get_xdata())) > 1.05


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_a_diverged_run_stretches_no_axis_and_ends_in_an_arrow(scale: str) -> None:
    usual = [level / STEPS for level in (5.0, 4.0, 3.0)]
    figure, axes, legend = panels(scale, *usual, STEPS**48.0)
    bottom, top = axes.get_ylim()
    assert 5 < top < 100
    assert bottom < 0.3
    assert legend == {"beyond the panel": {"marker": "^", "ls": "", "ms": 5}}
    (arrow,) = [line for line in axes.lines if np.size(line.get_xdata()) == 1 and is_inside(line)]
    assert to_hex(arrow.get_color()) == COLORS[3]
    heights = axes.transAxes.inverted().transform(
        [axes.transData.transform(text.xy) for text in axes.texts]  # type: ignore[attr-defined]
    )
    assert (heights[:, 1] <= 1 + 1e-9).all()
    assert len(axes.texts) == 4
    figure.canvas.draw()


def test_ordinary_curves_and_set_limits_are_left_alone() -> None:
    _, axes, legend = panels("log", 100.0 * STEPS, STEPS, 3 * STEPS)
    assert not legend
    assert axes.get_ylim()[1] > 1000
    figure = Figure()
    axes = figure.subplots()
    axes.plot(STEPS, STEPS, label="a")
    axes.plot(STEPS, STEPS**48, label="b")
    axes.set_ylim(0, 7)
    assert not label_panels([axes])
    assert axes.get_ylim() == (0, 7)


def test_panels_that_share_an_axis_have_one_scale() -> None:
    figure = Figure()
    first, second = figure.subplots(1, 2, sharey=True)
    for axes, factor in ((first, 1.0), (second, 3.0)):
        axes.plot(STEPS, factor * STEPS, label="a")
        axes.plot(STEPS, factor * STEPS, label="b")
    second.plot(STEPS, STEPS**48, label="c")
    assert label_panels([first, second])
    assert first.get_ylim() == second.get_ylim()
    assert 30 < first.get_ylim()[1] < 100


def test_two_seeds_have_no_band() -> None:
    figure = Figure()
    axes = figure.subplots()
    style = CurveStyle("black", "o")
    for seeds, bands in ((2, 0), (3, 1)):
        draw_mean(axes, "a", style, STEPS, np.random.default_rng(0).uniform(1, 2, (10, seeds)))
        assert len(axes.collections) == bands
    assert list(band_legend(2)) == ["too few seeds for intervals: 2"]
    assert list(band_legend(3)) == ["95% interval over seeds"]


SWEPT = [f"muon:schedule=muon:steps={steps}" for steps in (1, 2, 5)]


def test_settings_that_vary_alone_are_swept() -> None:
    (setting,) = swept_settings([*SWEPT, "sgd", "a:b c", "torch.optim.SGD:lr=1", "muon:steps=3"])
    assert setting.key == "steps"
    assert setting.curves == {"muon:schedule=muon": dict(zip((1, 2, 5), SWEPT, strict=True))}
    lrs = [f"torch.optim.SGD:lr={lr}:momentum={m}" for lr in (0.1, 1, 10) for m in (0, 0.9)]
    (setting,) = swept_settings(lrs)
    assert setting.key == "lr"
    assert len(setting.curves) == 2
    assert not swept_settings(["sgd", "muon"])


def test_a_swept_setting_has_a_figure() -> None:
    _, summary = study("capacity", 3)
    fits = [replace(fit, optimizer=name) for fit, name in zip(summary.fits, SWEPT, strict=True)]
    summary = replace(summary, fits=fits)
    with figure_style(DESKTOP_WIDTH):
        bars = point_bars(summary, lambda point: mean(point.recovered).bar)
        (figure,) = sweep_figures("capacity", "recovered items", bars).values()
    titles = [axes.get_title(loc="left").replace("\N{NO-BREAK SPACE}", " ") for axes in figure.axes]
    assert titles == [f"alpha = 1.5, d = {dim}" for dim in (32, 64, 128)]
    for axes, point in zip(figure.axes, fits[0].points, strict=True):
        (container,) = axes.containers
        x, y = container.lines[0].get_data()  # type: ignore[attr-defined]
        assert list(x) == [1, 2, 5]
        assert y[0] == pytest.approx(np.mean(point.recovered))
    assert figure.axes[0].get_ylim()[0] == 0
    assert figure.axes[-1].get_xlabel() == "steps"
