"""The matrix sign, without and with damping, and steps of Muon, which are made of it.

The peers are the SVD, the same steps by BLAS, and torch's own Muon.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.cases import peers
from bench.registry import Case, Format, Function, Implementation, Prepare, Run, Unsupported

DAMPING = 1e-4
LARGEST_SVD = 1024  # rows of all matrices of a call on a GPU: twelve calls of more take minutes
LARGEST_DENSE = 512  # on a CPU
QUINTIC = 3.4445, -4.7750, 2.0315  # torch.optim.Muon's, five times
WEIGHT_DECAY = 1.0  # with lr=1 a step forgets where it was: each leads to the same place


class Size(NamedTuple):
    k: int
    n: int


class Inputs(NamedTuple):
    matrix: Tensor
    options: dict[str, Any]


def make_inputs(size: Size, fmt: Format, device: torch.device) -> Inputs:
    """Matrices of norm one with singular values down to 1e-3 (half precision: 0.1), log-spaced."""
    generator = torch.Generator(device).manual_seed(0)
    normal = torch.randn(2, size.k, size.n, size.n, generator=generator, device=device)
    left, right = torch.linalg.qr(normal)[0]
    smallest = -3 if fmt.dtype.itemsize >= 4 else -1
    spectrum = torch.logspace(0, smallest, size.n, device=device)
    return Inputs(((left * spectrum) @ right.mT).to(fmt.dtype), fmt.options)


def exact_sign(matrix: Tensor, damping: float = 0.0) -> Tensor:
    """`(G G^T + damping^2 I)^(-1/2) G` in float64, where its condition is no concern."""
    matrix = matrix.double()
    values, vectors = torch.linalg.eigh(matrix @ matrix.mT)
    scaled = vectors / (values.clamp_min(0) + damping**2).sqrt()[..., None, :]
    sign: Tensor = scaled @ (vectors.mT @ matrix)
    return sign


def ours(damping: float = 0.0, **settings: Any) -> Prepare:
    """`matrix_sign` with its default schedule."""

    def prepare(inputs: Inputs) -> Run:
        from memsolve_kernels import matrix_sign

        options = {**inputs.options, **settings}
        return lambda: matrix_sign(inputs.matrix, damping, **options)

    return prepare


def same_steps(damping: float = 0.0) -> Prepare:
    """Our schedule by torch's own products."""
    return lambda inputs: ours(damping, backend="torch")(inputs._replace(options={}))


def augmented(inputs: Inputs) -> Run:
    """The first block of the polar factor of `[G, damping I]`, formed densely."""
    from memsolve_kernels.matrix_sign import matrix_sign, minimax

    schedule = minimax(DAMPING / 16, 1e-10)
    matrix = inputs.matrix
    if not matrix.is_cuda and matrix.shape[-1] > LARGEST_DENSE:
        raise Unsupported(f"on a CPU beyond n = {LARGEST_DENSE} it takes longer than all others")
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    wide = torch.cat([matrix, DAMPING * identity.expand_as(matrix)], -1)
    columns = matrix.shape[-1]
    return lambda: matrix_sign(wide, schedule=schedule)[..., :columns]


def svd(damping: float = 0.0, dtype: torch.dtype | None = None) -> Prepare:
    """From the singular vectors, by default in the dtype of the matrix, or float32 for half."""

    def prepare(inputs: Inputs) -> Run:
        matrix = inputs.matrix
        if matrix.is_cuda and matrix[..., 0].numel() > LARGEST_SVD:
            raise Unsupported(f"beyond k n = {LARGEST_SVD} it takes longer than all other rows")
        if matrix.is_cuda and matrix.dtype.itemsize < 4:
            raise Unsupported("the SVD in float32 is a row of tf32x3")
        if matrix.dtype == dtype:
            raise Unsupported("this is the SVD in the dtype of the matrix")
        computed = dtype or torch.promote_types(matrix.dtype, torch.float32)

        def run() -> Tensor:
            left, values, right = torch.linalg.svd(matrix.to(computed), full_matrices=False)
            if damping:
                left = left * (values * (values**2 + damping**2).rsqrt())[..., None, :]
            sign: Tensor = left @ right
            return sign

        return run

    return prepare


def _sign(name: str, damping: float, *others: Implementation) -> Function:
    return Function(
        name=name,
        make_inputs=make_inputs,
        reference=lambda inputs: exact_sign(inputs.matrix, damping),
        implementations=(
            Implementation("ours", ours(damping)),
            Implementation("torch.linalg.svd", svd(damping)),
            *others,
        ),
        flops=peers.count_flops(same_steps(damping)),
        bytes=lambda size, width: 2.0 * width * size.k * size.n**2,
    )


SIGN = _sign(
    "matrix_sign",
    0.0,
    Implementation("torch.linalg.svd float64", svd(dtype=torch.float64)),
    Implementation("ours, CUDA graph", peers.graphed(ours())),
    Implementation("same steps on BLAS, CUDA graph", peers.graphed(same_steps())),
)
DAMPED = _sign("matrix_sign_damped", DAMPING, Implementation("dense [G, damping I]", augmented))


class Gradients(NamedTuple):
    gradients: Tensor


def make_gradients(size: Size, fmt: Format, device: torch.device) -> Gradients:
    generator = torch.Generator(device).manual_seed(0)
    shape = size.k, size.n, size.n
    return Gradients(torch.randn(shape, generator=generator, device=device))


def exact_five_steps(inputs: Gradients) -> tuple[Tensor, ...]:
    """Where a step leads: minus the quintic, five times."""
    a, b, c = QUINTIC
    X = inputs.gradients.double()
    X /= torch.linalg.matrix_norm(X, keepdim=True)
    for _ in range(5):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return (-X).unbind()


def exact_polar_factor(inputs: Gradients) -> tuple[Tensor, ...]:
    return (-exact_sign(inputs.gradients)).unbind()


def stepping(optimizer: Callable[[list[Tensor]], Any]) -> Prepare:
    """Steps of an optimizer on parameters with the same gradients at each step."""

    def prepare(inputs: Gradients) -> Run:
        params = [torch.nn.Parameter(torch.zeros_like(g)) for g in inputs.gradients]
        for param, gradient in zip(params, inputs.gradients, strict=True):
            param.grad = gradient.clone()
        instance = optimizer(list(params))
        reached = tuple(param.detach() for param in params)

        def run() -> tuple[Tensor, ...]:
            instance.step()
            return reached

        return run

    return prepare


def our_muon(**settings: Any) -> Prepare:
    """`memsolve.optim.Muon`."""

    def make(params: list[Tensor]) -> Any:
        from memsolve.optim import Muon

        return Muon(params, lr=1.0, weight_decay=WEIGHT_DECAY, **settings)

    return stepping(make)


def torch_muon(params: list[Tensor]) -> Any:
    if not hasattr(torch.optim, "Muon"):
        raise Unsupported(f"torch {torch.__version__} has no torch.optim.Muon")
    return torch.optim.Muon(params, lr=1.0, weight_decay=WEIGHT_DECAY)


def svd_muon(params: list[Tensor]) -> Any:
    if params[0].is_cuda:
        raise Unsupported("on a GPU an SVD a matrix and step takes longer than all other rows")
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


MUON_STOCK = Function(
    name="muon_step_stock",
    make_inputs=make_gradients,
    reference=exact_five_steps,
    implementations=(
        Implementation("ours", our_muon(schedule="muon", dtype=torch.bfloat16)),
        Implementation("torch.optim.Muon", stepping(torch_muon)),
    ),
    flops=lambda inputs: 6.0 * 5 * inputs.gradients.numel() * inputs.gradients.shape[-1],
    bytes=lambda size, width: 20.0 * size.k * size.n**2,
)
MUON = Function(
    name="muon_step",
    make_inputs=make_gradients,
    reference=exact_polar_factor,
    implementations=(
        Implementation("ours", our_muon()),
        Implementation("torch.linalg.svd", stepping(svd_muon)),
    ),
    flops=peers.count_flops(our_muon(backend="torch")),
    bytes=lambda size, width: 20.0 * size.k * size.n**2,
)

_CPU = [Size(1, 256), Size(1, 1024)]
_GPU = [Size(1, 2**power) for power in range(8, 14)] + [Size(132, 64), Size(132, 128)]
CASES: list[Case] = [
    *SIGN.cases("cpu", _CPU, "float32", "float64"),
    *SIGN.cases("cuda", _GPU, "bfloat16"),
    *SIGN.cases("cuda", [size for size in _GPU if size.n < 8192], "tf32x3"),  # else half a minute
    *DAMPED.cases("cpu", _CPU, "float32", "float64"),
    *DAMPED.cases("cuda", [Size(1, 1024), Size(1, 4096)], "tf32x3"),
    *MUON_STOCK.cases("cpu", [Size(4, 256)], "bfloat16"),
    *MUON_STOCK.cases("cuda", [Size(16, 1024)], "bfloat16"),
    *MUON.cases("cpu", [Size(4, 256)], "float32"),
    *MUON.cases("cuda", [Size(16, 1024)], "float32"),
]

QUICK: list[Case] = [
    *SIGN.cases("cpu", [Size(1, 128)], "float32"),
    *SIGN.cases("cuda", [Size(4, 1024)], "tf32x3"),
    *DAMPED.cases("cpu", [Size(1, 128)], "float32"),
    *DAMPED.cases("cuda", [Size(4, 1024)], "tf32x3"),
    *MUON.cases("cpu", [Size(2, 128)], "float32"),
    *MUON.cases("cuda", [Size(4, 1024)], "float32"),
]
