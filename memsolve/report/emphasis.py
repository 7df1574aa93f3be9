"""Colors of optimizers: of all in a small figure, of the most relevant ones in a large one."""

import re
from collections.abc import Sequence

from memsolve.engine import Summary
from memsolve.engine.results.summary import P
from memsolve.environment import Environment
from memsolve.optimizers.registry import BUILT_IN
from memsolve.report.drawing import COLORS, MARKERS, MUTED, CurveStyle, curve_styles, optimizers

MAX_COLORS = len(COLORS)
"""With more optimizers than this, those without emphasis are gray."""

REFERENCES = "muon", "torch.optim.AdamW", "sgd", "newton", "newton:lr=1"
"""Well-known optimizers, in color as landmarks of a large figure."""

SHIPPED = "torch", "memsolve"
"""Packages whose optimizers are not the user's own."""


def optimizer_styles(
    summary: Summary[P], own: Sequence[str] | None = None
) -> dict[str, CurveStyle]:
    """A style for every optimizer of a study, by its position.

    Up to eight have a color each. Of more, the user's own and the references have one, as many as
    there are colors, and the others are gray.

    Args:
        summary: of the study.
        own: the user's optimizers (default: those of `is_own`).
    """
    names = optimizers(summary)
    if len(names) <= MAX_COLORS:
        return curve_styles(names)
    if own is None:
        own = [name for name in names if is_own(name, summary.environment)]
    references = [name for name in REFERENCES if name in names and name not in own]
    emphasized = [*own[: MAX_COLORS - len(references)], *references]
    colors = dict(zip(emphasized, COLORS, strict=False))
    return {
        name: CurveStyle(colors.get(name, MUTED), MARKERS[index % len(MARKERS)])
        for index, name in enumerate(names)
    }


def is_own(name: str, environment: Environment) -> bool:
    """Whether an optimizer is the user's: neither built in nor of torch or an installed package.

    Args:
        name: of the optimizer.
        environment: of the study, which lists the packages of its optimizers.
    """
    path = re.split(r"[:\s]", name, maxsplit=1)[0]
    packages = {key.replace("-", "_") for key in environment}
    return path not in BUILT_IN and path.split(".")[0] not in {*SHIPPED, *packages}
