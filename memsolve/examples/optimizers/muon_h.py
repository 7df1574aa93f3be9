"""MuonH: Muon on a sphere of weights."""

from typing import Any

from memsolve_kernels.errors import RangeError
from memsolve_kernels.matrix_sign import matrix_sign
from torch import Tensor
from torch.optim.optimizer import ParamsT

from memsolve.checks import is_positive
from memsolve.examples.optimizers.matrix_optimizer import MatrixOptimizer
from memsolve.objective import Objective
from memsolve.theory import weight_norm


class MuonH(MatrixOptimizer):
    """Muon whose weight keeps its norm, and whose step is a share of that norm.

    A step is `W <- R norm(W - lr R norm(U))`, where `norm(X)` is `X / |X|` in the Frobenius norm,
    `R` the radius, and `U` the step of Muon: the polar factor of the running mean `M <- momentum M
    + (1 - momentum) G`. So `lr` is an angle, up to its tangent, and no weight decay is needed.

    The radius of the paper is the norm of the initial weight. A weight that starts at zero, as in
    a memory, has none, and could never move. There the radius is `theory.weight_norm`, the norm of
    a weight that stores all that `d` can, and the first step goes to the sphere along `-U`, for
    every learning rate. Measured at alpha = 1.5, d = 32, N = 2048, one seed, the better of two
    trials of 10 steps: with a quarter, half, once, twice and four times that radius 25, 26, 30, 32
    and 31 items are recovered.

    Args:
        params: matrices, or groups of them.
        objective: of a memory, for the radius of a weight that starts at zero.
        lr: length of a step before it returns to the sphere, in units of the radius.
        momentum: decay of the running mean, in [0, 1).
        radius: norm of the weight after each step (default: as above).

    Raises:
        RangeError: in a step, a zero weight whose radius is unknown.

    Source: Wen, Dang, Lyu, Ma, Liang 2026 (arXiv 2606.16899), where MuonH is called Muon Hyperball.
    """

    def __init__(
        self,
        params: ParamsT,
        objective: Objective | None = None,
        lr: float = 0.02,
        momentum: float = 0.95,
        radius: float | None = None,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, radius=radius)
        self.objective = objective

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise RangeError for a hyperparameter out of range."""
        super().check_group(group)
        if group["radius"] is not None and not is_positive(group["radius"]):
            raise RangeError(f"radius is {group['radius']!r}; expected None or a number above 0")

    def step_matrix(self, param: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Change a matrix by a step on its gradient."""
        mean = self.running_mean(param, "momentum_buffer", gradient, group["momentum"])
        update = matrix_sign(mean)
        size = float(update.norm())
        if not size:
            return
        state = self.state[param]
        if "radius" not in state:
            state["radius"] = group["radius"] or self._initial_radius(param)
        radius = state["radius"]
        param.sub_(update, alpha=group["lr"] * radius / size)
        if not param.any():
            param.sub_(update)
        param.mul_(radius / param.norm())

    def _initial_radius(self, param: Tensor) -> float:
        """The norm of the weight before its first step; of a zero weight, `theory.weight_norm`."""
        if norm := float(param.norm()):
            return norm
        if self.objective is None:
            raise RangeError(
                "the weight is zero, so it has no sphere to stay on; give radius, or an objective"
            )
        memory = self.objective.memory
        return weight_norm(memory.dim, memory.num_items)
