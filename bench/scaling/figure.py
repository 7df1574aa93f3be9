"""The figure of `docs/scaling.md`: the efficiency of every way, on a logarithmic axis."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.scaling.sweep import efficiencies
from bench.scaling.tables import WAYS
from bench.scaling.ways import efficiency
from memsolve.report.curves import label_ends, panel_width
from memsolve.report.drawing import add_legend, create_panels, curve_styles

POWERS = [2**power for power in range(11)]
TICKS = POWERS[::2]
TITLES = {
    "sweeps": "Sweeps over workers (simulated)",
    "ways": "One computation over GPUs (derived)",
}


def draw() -> Figure:
    """Two panels: sweeps against workers, and single computations against GPUs."""
    names = list(WAYS)
    figure, panels = create_panels(
        TITLES, size=(panel_width(names, 3.2), 3.8), axes=("workers, or GPUs", "efficiency")
    )
    columns = [efficiencies(each) for each in POWERS]
    sweeps = {name: [column[name] for column in columns] for name in columns[0]}
    ways = {name: [efficiency(way, each) for each in POWERS] for name, way in WAYS.items()}
    _draw(panels["sweeps"], sweeps)
    _draw(panels["ways"], ways)
    not_built = {"*: memsolve does not have this way": {"ls": "--"}}
    add_legend(figure, {"at powers of two": {"marker": "o"}} | not_built)
    return figure


def _draw(axes: Axes, curves: dict[str, list[float]]) -> None:
    styles = curve_styles(curves)
    for name, y in curves.items():
        line = "--" if "*" in name else "-"
        color, marker = styles[name]
        axes.plot(POWERS, y, line, color=color, marker=marker, ms=4, label=name)
    axes.set_xscale("log", base=2)
    axes.set(ylim=(0, 1.03), xticks=TICKS)
    axes.set_xticklabels(map(str, TICKS))
    label_ends(axes)
