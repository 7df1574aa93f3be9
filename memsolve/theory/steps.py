"""The laws of further steps."""

from typing import Literal

from memsolve.theory.laws import Law, Method


def exponents_by_step(method: Method, alpha: float, steps: int) -> list[float]:
    """Exponents `e_t` of the number of items recovered, `d^e_t`, after each step.

    For Muon with thresholded gradients, `e_t = 2 - (1 - 1/(2 alpha))^t` (published; conjectured
    there for exact gradients). For SGD (derived), from `e_0 = 0`,
    `e_(t+1) = min(e_t + 1/(2 alpha), e_t (1 - 1/(2 alpha)) + 1/alpha)`: slow up to `d`, then the
    recursion of Muon.

    Args:
        method: "muon" or "sgd"; there is no law for further steps of Newton's method.
        alpha: exponent of the frequencies, above 1.
        steps: number of steps.

    Raises:
        KeyError: another method.
    """
    gain = 1 / (2 * alpha)

    def late(e: float) -> float:
        return e * (1 - gain) + 2 * gain

    def early(e: float) -> float:
        return min(e + gain, late(e))

    start, step = {"muon": (1.0, late), "sgd": (0.0, early)}[method]
    exponents = [start]
    for _ in range(steps):
        exponents.append(step(exponents[-1]))
    return exponents[1:]


def rate_law(
    method: Method | None, gradient: Literal["exact", "thresholded"], alpha: float, step: int
) -> Law | None:
    """The law of the items recovered after a step, `exponents_by_step`; None if there is none.

    Muon's is published for thresholded gradients and, after one step, for exact ones; beyond, it
    is conjectured there for exact ones. SGD's is derived, beyond one step for learning rates that
    grow, by up to `sqrt(d)` a step.
    """
    if method not in ("sgd", "muon"):
        return None
    if method == "sgd":
        status = "derived" if step == 1 else "derived, growing steps"
    else:
        status = "published" if step == 1 or gradient == "thresholded" else "conjectured"
    return Law(exponents_by_step(method, alpha, step)[-1], status)
