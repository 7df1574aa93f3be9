"""A step of Muon on several parameters: with torch's own five steps, and with the exact factor."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.cases.matrix_sign import Size, exact_sign
from bench.registry import Case, Format, Function, Run, Unsupported, Way, counted, lookup

QUINTIC = 3.4445, -4.7750, 2.0315  # torch.optim.Muon's, five times
WEIGHT_DECAY = 1.0  # with lr=1 a step forgets where it was: each leads to the same place


class Inputs(NamedTuple):
    gradients: Tensor


def inputs(size: Size, form: Format, device: torch.device) -> Inputs:
    generator = torch.Generator(device).manual_seed(0)
    shape = size.k, size.n, size.n
    return Inputs(torch.randn(shape, generator=generator, device=device))


def exact_five_steps(given: Inputs) -> tuple[Tensor, ...]:
    """Where a step leads: minus the quintic, five times."""
    a, b, c = QUINTIC
    X = given.gradients.double()
    X /= torch.linalg.matrix_norm(X, keepdim=True)
    for _ in range(5):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return (-X).unbind()


def exact_polar_factor(given: Inputs) -> tuple[Tensor, ...]:
    return (-exact_sign(given.gradients)).unbind()


def stepping(optimizer: Callable[[list[Tensor]], Any]) -> Callable[[Inputs], Run]:
    """Steps of an optimizer on parameters with the same gradients at each step."""

    def prepare(given: Inputs) -> Run:
        params = [torch.nn.Parameter(torch.zeros_like(g)) for g in given.gradients]
        for param, gradient in zip(params, given.gradients, strict=True):
            param.grad = gradient.clone()
        made = optimizer(list(params))
        reached = tuple(param.detach() for param in params)

        def run() -> tuple[Tensor, ...]:
            made.step()
            return reached

        return run

    return prepare


def ours(**settings: Any) -> Callable[[Inputs], Run]:
    """`memsolve.optim.Muon`."""

    def make(params: list[Tensor]) -> Any:
        return lookup("memsolve.optim:Muon")(params, lr=1.0, weight_decay=WEIGHT_DECAY, **settings)

    return stepping(make)


def torch_muon(params: list[Tensor]) -> Any:
    if not hasattr(torch.optim, "Muon"):
        raise Unsupported(f"torch {torch.__version__} has no torch.optim.Muon")
    return torch.optim.Muon(params, lr=1.0, weight_decay=WEIGHT_DECAY)


def svd_muon(params: list[Tensor]) -> Any:
    if params[0].is_cuda:
        raise Unsupported("on a GPU an SVD a matrix and step takes longer than the whole table")
    return SvdMuon(params)


class SvdMuon(torch.optim.Optimizer):
    """Muon as it is defined: momentum, then the polar factor by singular vectors."""

    def __init__(self, params: list[Tensor]) -> None:
        super().__init__(params, {"momentum": 0.95})
        for param in params:
            self.state[param]["mean"] = torch.zeros_like(param)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for param in self.param_groups[0]["params"]:
            mean = self.state[param]["mean"].lerp_(param.grad, 0.05)
            left, _, right = torch.linalg.svd(param.grad.lerp(mean, 0.95), full_matrices=False)
            param.mul_(1 - WEIGHT_DECAY).sub_(left @ right)


STOCK = Function(
    name="muon_step_stock",
    inputs=inputs,
    reference=exact_five_steps,
    ways=(
        Way("ours", ours(schedule="muon", dtype=torch.bfloat16)),
        Way("torch.optim.Muon", stepping(torch_muon)),
    ),
    items=lambda size: size.k,
    flops=lambda given: 6.0 * 5 * given.gradients.numel() * given.gradients.shape[-1],
    bytes=lambda size, width: 20.0 * size.k * size.n**2,
)
EXACT = Function(
    name="muon_step",
    inputs=inputs,
    reference=exact_polar_factor,
    ways=(Way("ours", ours()), Way("torch.linalg.svd", stepping(svd_muon))),
    items=lambda size: size.k,
    flops=counted(ours(backend="torch")),
    bytes=lambda size, width: 20.0 * size.k * size.n**2,
)

CASES: list[Case] = [
    *STOCK.cases("cpu", [Size(4, 256)], "bfloat16"),
    *STOCK.cases("cuda", [Size(16, 1024)], "bfloat16"),
    *EXACT.cases("cpu", [Size(4, 256)], "float32"),
    *EXACT.cases("cuda", [Size(16, 1024)], "float32"),
]

QUICK: list[Case] = [
    *EXACT.cases("cpu", [Size(2, 128)], "float32"),
    *EXACT.cases("cuda", [Size(4, 1024)], "float32"),
]
