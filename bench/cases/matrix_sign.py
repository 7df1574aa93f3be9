"""The matrix sign, without and with damping, beside the SVD and the same steps on plain BLAS."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.cases import peers
from bench.registry import Case, Format, Function, Run, Unsupported, Way, counted, lookup

DAMPING = 1e-4
LARGEST_SVD = 1024  # rows of all matrices of a call on a GPU: twelve calls of more take minutes
LARGEST_DENSE = 512  # on a CPU


class Size(NamedTuple):
    k: int
    n: int


class Inputs(NamedTuple):
    matrix: Tensor
    options: dict[str, Any]


def inputs(size: Size, form: Format, device: torch.device) -> Inputs:
    """Matrices of norm one with singular values down to 1e-3 (half precision: 0.1), log-spaced."""
    generator = torch.Generator(device).manual_seed(0)
    normal = torch.randn(2, size.k, size.n, size.n, generator=generator, device=device)
    left, right = torch.linalg.qr(normal)[0]
    smallest = -3 if form.dtype.itemsize >= 4 else -1
    spectrum = torch.logspace(0, smallest, size.n, device=device)
    options = {} if form.precision is None else {"precision": form.precision}
    return Inputs(((left * spectrum) @ right.mT).to(form.dtype), options)


def exact_sign(matrix: Tensor, damping: float = 0.0) -> Tensor:
    """`(G G^T + damping^2 I)^(-1/2) G` in float64, where its condition is no concern."""
    matrix = matrix.double()
    values, vectors = torch.linalg.eigh(matrix @ matrix.mT)
    scaled = vectors / (values.clamp_min(0) + damping**2).sqrt()[..., None, :]
    sign: Tensor = scaled @ (vectors.mT @ matrix)
    return sign


def exact(damping: float) -> Callable[[Inputs], Tensor]:
    """`exact_sign` of the inputs."""
    return lambda given: exact_sign(given.matrix, damping)


def ours(damping: float = 0.0, **settings: Any) -> Callable[[Inputs], Run]:
    """`matrix_sign` with its default schedule."""

    def prepare(given: Inputs) -> Run:
        function = lookup("memsolve_kernels:matrix_sign")
        options = {**given.options, **settings}
        return lambda: function(given.matrix, damping, **options)

    return prepare


def same_steps(damping: float = 0.0) -> Callable[[Inputs], Run]:
    """Our schedule by torch's own products."""
    return lambda given: ours(damping, backend="torch")(given._replace(options={}))


def augmented(given: Inputs) -> Run:
    """The first block of the polar factor of `[G, damping I]`, formed densely."""
    function = lookup("memsolve_kernels:matrix_sign")
    schedule = lookup("memsolve_kernels.matrix_sign:minimax")(DAMPING / 16, 1e-10)
    matrix = given.matrix
    if not matrix.is_cuda and matrix.shape[-1] > LARGEST_DENSE:
        raise Unsupported(f"on a CPU beyond n = {LARGEST_DENSE} it takes longer than all others")
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    wide = torch.cat([matrix, DAMPING * identity.expand_as(matrix)], -1)
    columns = matrix.shape[-1]
    return lambda: function(wide, schedule=schedule)[..., :columns]


def svd(damping: float = 0.0, dtype: torch.dtype | None = None) -> Callable[[Inputs], Run]:
    """From the singular vectors, by default in the dtype of the matrix, or float32 for half."""

    def prepare(given: Inputs) -> Run:
        matrix = given.matrix
        if matrix.is_cuda and matrix[..., 0].numel() > LARGEST_SVD:
            raise Unsupported(f"beyond k n = {LARGEST_SVD} it takes longer than the whole table")
        if matrix.is_cuda and matrix.dtype.itemsize < 4:
            raise Unsupported("the SVD in float32 is timed beside tf32x3")
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


SIGN = Function(
    name="matrix_sign",
    inputs=inputs,
    reference=exact(0.0),
    ways=(
        Way("ours", ours()),
        Way("torch.linalg.svd", svd()),
        Way("torch.linalg.svd float64", svd(dtype=torch.float64)),
        Way("ours, CUDA graph", peers.graphed(ours())),
        Way("same steps on BLAS, CUDA graph", peers.graphed(same_steps())),
    ),
    items=lambda size: size.k,
    flops=counted(same_steps()),
    bytes=lambda size, width: 2.0 * width * size.k * size.n**2,
)
DAMPED = Function(
    name="matrix_sign_damped",
    inputs=inputs,
    reference=exact(DAMPING),
    ways=(
        Way("ours", ours(DAMPING)),
        Way("torch.linalg.svd", svd(DAMPING)),
        Way("dense [G, damping I]", augmented),
    ),
    items=lambda size: size.k,
    flops=counted(same_steps(DAMPING)),
    bytes=lambda size, width: 2.0 * width * size.k * size.n**2,
)

_CPU = [Size(1, 256), Size(1, 1024)]
_GPU = [Size(1, 2**power) for power in range(8, 14)] + [Size(132, 64), Size(132, 128)]
CASES: list[Case] = [
    *SIGN.cases("cpu", _CPU, "float32", "float64"),
    *SIGN.cases("cuda", _GPU, "bfloat16"),
    *SIGN.cases("cuda", [size for size in _GPU if size.n < 8192], "tf32x3"),  # else half a minute
    *DAMPED.cases("cpu", _CPU, "float32", "float64"),
    *DAMPED.cases("cuda", [Size(1, 1024), Size(1, 4096)], "tf32x3"),
]

QUICK: list[Case] = [
    case
    for function in (SIGN, DAMPED)
    for case in (
        *function.cases("cpu", [Size(1, 128)], "float32"),
        *function.cases("cuda", [Size(4, 1024)], "tf32x3"),
    )
]
