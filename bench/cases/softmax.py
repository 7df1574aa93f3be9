"""Softmax-logistic regression with fixed outputs: gradient, Hessian product, retrieval."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bench.cases import peers
from bench.registry import Case, Format, Function, Run, Way, lookup

LOGITS_AT_ONCE = 1 << 24


class Size(NamedTuple):
    B: int
    N: int
    d: int


class Inputs(NamedTuple):
    queries: Tensor
    directions: Tensor
    outputs: Tensor
    targets: Tensor
    options: dict[str, Any]


def inputs(size: Size, form: Format, device: torch.device) -> Inputs:
    """Outputs of norm one, and queries that give logits of standard deviation three."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(rows: int, scale: float) -> Tensor:
        wide = torch.randn(rows, size.d, generator=generator, device=device)
        return wide.mul_(scale).to(form.dtype)

    return Inputs(
        normal(size.B, 3.0),
        normal(size.B, 1.0),
        normal(size.N, size.d**-0.5),
        torch.randint(size.N, (size.B,), generator=generator, device=device),
        {} if form.precision is None else {"precision": form.precision},
    )


def blocks(given: Inputs) -> Iterator[tuple[slice, Inputs]]:
    """The inputs in float64, a few rows at a time."""
    outputs = given.outputs.double()
    step = max(1, LOGITS_AT_ONCE // len(outputs))
    for start in range(0, len(given.queries), step):
        rows = slice(start, start + step)
        queries, directions = given.queries[rows].double(), given.directions[rows].double()
        yield rows, Inputs(queries, directions, outputs, given.targets[rows], {})


def exact_gradient(given: Inputs) -> Tensor:
    """`(softmax(Q V^T) V - V_y) / B`."""
    truth = torch.empty_like(given.queries, dtype=torch.float64)
    for rows, block in blocks(given):
        probabilities = (block.queries @ block.outputs.T).softmax(1)
        truth[rows] = probabilities @ block.outputs - block.outputs[block.targets]
    return truth / len(truth)


def exact_product(given: Inputs) -> Tensor:
    """The covariance of the outputs under the softmax, times the directions, over B."""
    truth = torch.empty_like(given.queries, dtype=torch.float64)
    for rows, block in blocks(given):
        probabilities = (block.queries @ block.outputs.T).softmax(1)
        mean = probabilities @ block.outputs
        along = block.directions @ block.outputs.T
        along -= (block.directions * mean).sum(1, keepdim=True)
        truth[rows] = (probabilities * along) @ block.outputs
    return truth / len(truth)


def exact_statistics(given: Inputs) -> tuple[Tensor, ...]:
    """Log-partition and margin, each (B,)."""
    parts = [_statistics(block.queries @ block.outputs.T, block) for _, block in blocks(given)]
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))


def _statistics(logits: Tensor, given: Inputs) -> tuple[Tensor, ...]:
    """What `retrieval` gives, from all logits; the rank is computed but too brittle to compare."""
    column = given.targets[:, None]
    own = logits.gather(1, column)
    partition = logits.logsumexp(1)
    others = logits.scatter(1, column, -torch.inf)
    (others > own).sum(1)
    return partition, own[:, 0] - others.amax(1)


def ours_gradient(given: Inputs) -> Run:
    function = lookup("memsolve_kernels:softmax_gradient")
    arguments = given.queries, given.outputs, given.targets
    return lambda: function(*arguments, **given.options)[1]


def ours_product(given: Inputs) -> Run:
    function = lookup("memsolve_kernels:softmax_hvp")
    arguments = given.queries, given.directions, given.outputs, given.targets
    return lambda: function(*arguments, **given.options)


def ours_statistics(given: Inputs) -> Run:
    function = lookup("memsolve_kernels:retrieval")
    arguments = given.queries, given.outputs, given.targets

    def run() -> tuple[Tensor, ...]:
        found = function(*arguments, **given.options)
        return found.log_partition, found.margin

    return run


def definition(queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss as it is written, through all logits."""
    logits = queries @ outputs.T
    return (logits.logsumexp(1) - logits.gather(1, targets[:, None])[:, 0]).mean()


def fused(queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """The same through torch's cross entropy."""
    return functional.cross_entropy(queries @ outputs.T, targets)


def by_autograd(loss: Callable[..., Tensor]) -> Callable[[Inputs], Run]:
    """The gradient of a loss by torch's autograd."""

    def prepare(given: Inputs) -> Run:
        queries = given.queries.clone().requires_grad_()
        arguments = queries, given.outputs, given.targets
        return lambda: torch.autograd.grad(loss(*arguments), queries)[0]

    return prepare


def by_two_derivatives(given: Inputs) -> Run:
    """The Hessian product by autograd, twice."""

    def run() -> Tensor:
        queries = given.queries.clone().requires_grad_()
        loss = fused(queries, given.outputs, given.targets)
        (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
        return torch.autograd.grad((gradient * given.directions).sum(), queries)[0]

    return run


def by_attention(attention: peers.Attention) -> Callable[[Inputs], Run]:
    """The softmax average as attention with K = V, less the target's output."""

    def prepare(given: Inputs) -> Run:
        attend = attention(given.queries, given.outputs)
        own = given.outputs[given.targets]
        scale = 1 / len(given.queries)
        return lambda: (attend() - own).mul_(scale)

    return prepare


def by_peer(peer: Callable[[torch.device], peers.Loss]) -> Callable[[Inputs], Run]:
    """The gradient of another library's loss, or why it cannot run here."""
    return lambda given: by_autograd(peer(given.queries.device))(given)


def from_logits(statistics: Callable[..., tuple[Tensor, ...]]) -> Callable[[Inputs], Run]:
    """Statistics from all logits, which torch writes to memory first."""
    return lambda given: lambda: statistics(given.queries @ given.outputs.T, given)


def compiled_statistics(given: Inputs) -> Run:
    return from_logits(peers.compiled(_statistics))(given)


def products(count: int) -> Callable[[Inputs], Run]:
    """The bare matrix products, tiled over the items: what nothing built on them can beat."""

    def prepare(given: Inputs) -> Run:
        queries, outputs = given.queries, given.outputs
        tiles = outputs.split(max(256, LOGITS_AT_ONCE // (4 * len(queries))))
        logits = queries.new_empty(len(queries), len(tiles[0]))

        def run() -> Tensor:
            total = torch.zeros_like(queries)
            for tile in tiles:
                here = torch.mm(queries, tile.T, out=logits[:, : len(tile)])
                if count == 2:
                    torch.addmm(total, here, tile, out=total)
            return total

        return run

    return prepare


GRADIENT = Function(
    name="softmax_gradient",
    inputs=inputs,
    reference=exact_gradient,
    ways=(
        Way("ours", ours_gradient),
        Way("autograd", by_autograd(definition)),
        Way("cross_entropy", by_autograd(fused)),
        Way("torch.compile", by_peer(lambda device: peers.compiled(fused))),
        Way("linear_cross_entropy", by_peer(peers.linear_cross_entropy)),
        Way("linear_cross_entropy, chunked", by_peer(peers.chunked_linear_cross_entropy)),
        Way("sdpa K=V", by_attention(peers.sdpa)),
        Way("sdpa flash K=V", by_attention(peers.flash)),
        Way("sdpa cuDNN K=V", by_attention(peers.cudnn)),
        Way("liger", by_peer(peers.liger)),
        Way("cut_cross_entropy", by_peer(peers.cut_cross_entropy)),
        Way("two GEMMs", products(2), bound=True),
    ),
    items=lambda size: size.B,
    flops=lambda given: 4.0 * len(given.outputs) * given.queries.numel(),
    bytes=lambda size, width: width * size.d * (size.N + size.B) + 4.0 * size.d * size.B,
)
PRODUCT = Function(
    name="softmax_hvp",
    inputs=inputs,
    reference=exact_product,
    ways=(
        Way("ours", ours_product),
        Way("autograd twice", by_two_derivatives),
        Way("our gradient", ours_gradient, bound=True, work=GRADIENT),
    ),
    items=lambda size: size.B,
    flops=lambda given: 6.0 * len(given.outputs) * given.queries.numel(),
    bytes=lambda size, width: width * size.d * (size.N + 2 * size.B) + 4.0 * size.d * size.B,
)
RETRIEVAL = Function(
    name="retrieval",
    inputs=inputs,
    reference=exact_statistics,
    ways=(
        Way("ours", ours_statistics),
        Way("torch eager", from_logits(_statistics)),
        Way("torch.compile", compiled_statistics),
        Way("one GEMM", products(1), bound=True),
    ),
    items=lambda size: size.B,
    flops=lambda given: 2.0 * len(given.outputs) * given.queries.numel(),
    bytes=lambda size, width: width * size.d * (size.N + size.B) + 24.0 * size.B,
)

_CPU = [Size(1024, 32768, 64), Size(1024, 32768, 256)]
_GPU = [Size(4096, 131072, d) for d in (64, 128, 256, 512, 1024, 2048)]
CASES: list[Case] = [
    *GRADIENT.cases("cpu", _CPU, "float32"),
    *GRADIENT.cases("cuda", _GPU, "bfloat16"),
    *GRADIENT.cases("cuda", (_GPU[1], _GPU[3]), "float16", "tf32", "tf32x3", "float32"),
    *PRODUCT.cases("cpu", _CPU[:1], "float32"),
    *PRODUCT.cases("cuda", _GPU, "bfloat16"),
    *RETRIEVAL.cases("cpu", _CPU[:1], "float32"),
    *RETRIEVAL.cases("cuda", _GPU, "bfloat16"),
]

QUICK: list[Case] = [
    case
    for function in (GRADIENT, PRODUCT, RETRIEVAL)
    for case in (
        *function.cases("cpu", [Size(128, 4096, 64)], "float32"),
        *function.cases("cuda", [Size(2048, 32768, 128)], "bfloat16"),
    )
]
