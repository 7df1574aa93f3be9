"""Muon as inexact as one asks for, to see what exactness is worth."""

from typing import Any

import torch
from memsolve_kernels.errors import RangeError
from memsolve_kernels.matrix_sign import STOCK, minimax

from memsolve.optim.muon import Muon


def inexact_muon(
    params: list[torch.nn.Parameter],
    *,
    schedule: str | None = None,
    lower: float | None = None,
    steps: int | None = None,
    relative_damping: float = 0.0,
    gradient_dtype: torch.dtype | None = None,
    **settings: Any,
) -> Muon:
    """One-step Muon (`lr=1`, no momentum) with its inaccuracies as settings.

    Args:
        params: parameters that hold their gradients.
        schedule: name of a stock schedule, as in `memsolve_kernels.matrix_sign.STOCK`.
        lower: in place of a stock schedule, the minimax one that resolves singular values down
            to `lower` times the largest.
        steps: its first steps only, or its last one repeated.
        relative_damping: `lambda` relative to the largest singular value of the gradients.
        gradient_dtype: round the gradients to it first.
        settings: of `Muon`: `dtype` (of the sign), `backend` (`reference` is an exact SVD), ...

    Raises:
        RangeError: an unknown schedule, or settings that exclude each other.
    """
    for name in ("lr", "momentum", "damping"):
        if name in settings:
            raise RangeError(
                f"{name} is not a setting of muon here: one step from zero has no momentum and "
                "does not depend on lr; damping is relative_damping"
            )
    if schedule is not None and lower is not None:
        raise RangeError("schedule and lower exclude each other: lower makes a minimax schedule")
    if schedule is not None and schedule not in STOCK:
        raise RangeError(f"schedule is {schedule!r}; expected one of {sorted(STOCK)}")
    chosen = STOCK[schedule] if schedule is not None else None if lower is None else minimax(lower)
    if steps is not None:
        if chosen is None:
            raise RangeError("steps needs a schedule or lower to take the steps from")
        chosen = chosen.take(steps)
    gradients = [param.grad for param in params if param.grad is not None]
    if gradient_dtype is not None:
        for gradient in gradients:
            gradient.copy_(gradient.to(gradient_dtype))
    damping = 0.0
    if relative_damping and gradients:
        damping = relative_damping * max(
            float(torch.linalg.matrix_norm(g, 2).max()) for g in gradients
        )
    return Muon(params, lr=1.0, momentum=0.0, schedule=chosen, damping=damping, **settings)
