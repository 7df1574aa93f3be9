"""Softmax-logistic regression with fixed outputs: gradient, Hessian product, retrieval."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bench.cases import peers
from bench.registry import Case, Format, Function, Implementation, Prepare, Run

LOGITS_AT_ONCE = 1 << 24
TERMS = {"label_smoothing": 0.1, "z_loss": 1e-4}
ENTROPY = 0.01  # coefficient of the entropy in the same loss


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


def make_inputs(size: Size, fmt: Format, device: torch.device) -> Inputs:
    """Outputs of norm one, and queries that give logits of standard deviation three."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(rows: int, scale: float) -> Tensor:
        wide = torch.randn(rows, size.d, generator=generator, device=device)
        return wide.mul_(scale).to(fmt.dtype)

    return Inputs(
        normal(size.B, 3.0),
        normal(size.B, 1.0),
        normal(size.N, size.d**-0.5),
        torch.randint(size.N, (size.B,), generator=generator, device=device),
        fmt.options,
    )


def blocks(inputs: Inputs) -> Iterator[tuple[slice, Inputs]]:
    """The inputs in float64, a few rows at a time."""
    outputs = inputs.outputs.double()
    step = max(1, LOGITS_AT_ONCE // len(outputs))
    for start in range(0, len(inputs.queries), step):
        rows = slice(start, start + step)
        queries, directions = inputs.queries[rows].double(), inputs.directions[rows].double()
        yield rows, Inputs(queries, directions, outputs, inputs.targets[rows], {})


def exact_gradient(inputs: Inputs) -> Tensor:
    """`(softmax(Q V^T) V - V_y) / B`."""
    exact = torch.empty_like(inputs.queries, dtype=torch.float64)
    for rows, block in blocks(inputs):
        probabilities = (block.queries @ block.outputs.T).softmax(1)
        exact[rows] = probabilities @ block.outputs - block.outputs[block.targets]
    return exact / len(exact)


def exact_product(inputs: Inputs) -> Tensor:
    """The covariance of the outputs under the softmax, times the directions, over B."""
    exact = torch.empty_like(inputs.queries, dtype=torch.float64)
    for rows, block in blocks(inputs):
        probabilities = (block.queries @ block.outputs.T).softmax(1)
        mean = probabilities @ block.outputs
        along = block.directions @ block.outputs.T
        along -= (block.directions * mean).sum(1, keepdim=True)
        exact[rows] = (probabilities * along) @ block.outputs
    return exact / len(exact)


def exact_statistics(inputs: Inputs) -> tuple[Tensor, ...]:
    """Log-partition and margin, each (B,)."""
    parts = [_statistics(block.queries @ block.outputs.T, block) for _, block in blocks(inputs)]
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))


def _statistics(logits: Tensor, inputs: Inputs) -> tuple[Tensor, ...]:
    """Log-partition and margin from all logits; the rank too, which is too brittle to compare."""
    column = inputs.targets[:, None]
    own = logits.gather(1, column)
    partition = logits.logsumexp(1)
    others = logits.scatter(1, column, -torch.inf)
    (others > own).sum(1)
    return partition, own[:, 0] - others.amax(1)


def ours_gradient(inputs: Inputs) -> Run:
    from memsolve_kernels import softmax_gradient

    arguments = inputs.queries, inputs.outputs, inputs.targets
    return lambda: softmax_gradient(*arguments, **inputs.options)[1]


def ours_losses(inputs: Inputs) -> Run:
    """Gradients by queries and outputs of a loss with an entropy, from `softmax_statistics`."""
    from memsolve_kernels import softmax_statistics

    leaves, options = _leaves(inputs), inputs.options | TERMS

    def run() -> tuple[Tensor, ...]:
        result = softmax_statistics(*leaves, inputs.targets, **options)
        return torch.autograd.grad((result.loss - ENTROPY * result.entropy).mean(), leaves)

    return run


def losses_from_logits(inputs: Inputs) -> Run:
    """The same by autograd through all logits."""
    leaves = _leaves(inputs)

    def run() -> tuple[Tensor, ...]:
        logits = leaves[0] @ leaves[1].T
        return torch.autograd.grad(terms_of(logits, inputs.targets).mean(), leaves)

    return run


def _leaves(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Queries and outputs as leaves of a graph, in the same memory: a copy is no part of a loss."""
    return inputs.queries.detach().requires_grad_(), inputs.outputs.detach().requires_grad_()


def terms_of(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of each query, (B,): label smoothing, z-loss and entropy."""
    log_partition, smoothing = logits.logsumexp(1), TERMS["label_smoothing"]
    loss = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    entropy = log_partition - (logits.softmax(1) * logits).sum(1)
    return loss + TERMS["z_loss"] * log_partition.square() - ENTROPY * entropy


def exact_losses(inputs: Inputs) -> tuple[Tensor, ...]:
    """The gradients of these losses by queries and outputs, in float64, a few rows at a time."""
    by_queries = torch.empty_like(inputs.queries, dtype=torch.float64)
    by_outputs = torch.zeros_like(inputs.outputs, dtype=torch.float64)
    for rows, block in blocks(inputs):
        logits = (block.queries @ block.outputs.T).requires_grad_()
        total = terms_of(logits, block.targets).sum() / len(inputs.queries)
        (by_logits,) = torch.autograd.grad(total, logits)
        by_queries[rows] = by_logits @ block.outputs
        by_outputs += by_logits.T @ block.queries
    return by_queries, by_outputs


def ours_product(inputs: Inputs) -> Run:
    from memsolve_kernels import softmax_hvp

    arguments = inputs.queries, inputs.directions, inputs.outputs, inputs.targets
    return lambda: softmax_hvp(*arguments, **inputs.options)


def ours_statistics(inputs: Inputs) -> Run:
    from memsolve_kernels import retrieval

    arguments = inputs.queries, inputs.outputs, inputs.targets

    def run() -> tuple[Tensor, ...]:
        result = retrieval(*arguments, **inputs.options)
        return result.log_partition, result.margin

    return run


def definition(queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss as it is written, through all logits."""
    logits = queries @ outputs.T
    return (logits.logsumexp(1) - logits.gather(1, targets[:, None])[:, 0]).mean()


def fused(queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """The same through torch's cross entropy."""
    return functional.cross_entropy(queries @ outputs.T, targets)


def by_autograd(loss: Callable[..., Tensor]) -> Prepare:
    """The gradient of a loss by torch's autograd."""

    def prepare(inputs: Inputs) -> Run:
        queries = inputs.queries.clone().requires_grad_()
        arguments = queries, inputs.outputs, inputs.targets
        return lambda: torch.autograd.grad(loss(*arguments), queries)[0]

    return prepare


def by_two_derivatives(inputs: Inputs) -> Run:
    """The Hessian product by autograd, twice."""

    def run() -> Tensor:
        queries = inputs.queries.clone().requires_grad_()
        loss = fused(queries, inputs.outputs, inputs.targets)
        (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
        return torch.autograd.grad((gradient * inputs.directions).sum(), queries)[0]

    return run


def by_attention(attention: peers.Attention) -> Prepare:
    """The softmax average as attention with K = V, less the target's output."""

    def prepare(inputs: Inputs) -> Run:
        attend = attention(inputs.queries, inputs.outputs)
        own = inputs.outputs[inputs.targets]
        scale = 1 / len(inputs.queries)
        return lambda: (attend() - own).mul_(scale)

    return prepare


def by_peer(peer: Callable[[torch.device], peers.Loss]) -> Prepare:
    """The gradient of another library's loss."""
    return lambda inputs: by_autograd(peer(inputs.queries.device))(inputs)


def from_logits(statistics: Callable[..., tuple[Tensor, ...]]) -> Prepare:
    """Statistics from all logits, which torch writes to memory first."""
    return lambda inputs: lambda: statistics(inputs.queries @ inputs.outputs.T, inputs)


def products(count: int) -> Prepare:
    """The matrix products alone, tiled over the items: a lower bound on the time."""

    def prepare(inputs: Inputs) -> Run:
        queries, outputs = inputs.queries, inputs.outputs
        tiles = outputs.split(max(256, LOGITS_AT_ONCE // (4 * len(queries))))
        logits = queries.new_empty(len(queries), len(tiles[0]))

        def run() -> Tensor:
            total = torch.zeros_like(queries)
            for tile in tiles:
                tile_logits = torch.mm(queries, tile.T, out=logits[:, : len(tile)])
                if count == 2:
                    torch.addmm(total, tile_logits, tile, out=total)
            return total

        return run

    return prepare


GRADIENT = Function(
    name="softmax_gradient",
    make_inputs=make_inputs,
    reference=exact_gradient,
    implementations=(
        Implementation("ours", ours_gradient),
        Implementation("autograd", by_autograd(definition)),
        Implementation("cross_entropy", by_autograd(fused)),
        Implementation("torch.compile", by_peer(lambda device: peers.compiled(fused))),
        Implementation("linear_cross_entropy", by_peer(peers.linear_cross_entropy)),
        Implementation(
            "linear_cross_entropy, chunked", by_peer(peers.chunked_linear_cross_entropy)
        ),
        Implementation("sdpa K=V", by_attention(peers.sdpa)),
        Implementation("sdpa flash K=V", by_attention(peers.flash)),
        Implementation("sdpa cuDNN K=V", by_attention(peers.cudnn)),
        Implementation("liger", by_peer(peers.liger)),
        Implementation("cut_cross_entropy", by_peer(peers.cut_cross_entropy)),
        Implementation("two GEMMs", products(2), bound=True),
    ),
    flops=lambda inputs: 4.0 * len(inputs.outputs) * inputs.queries.numel(),
    bytes=lambda size, width: width * size.d * (size.N + size.B) + 4.0 * size.d * size.B,
)
PRODUCT = Function(
    name="softmax_hvp",
    make_inputs=make_inputs,
    reference=exact_product,
    implementations=(
        Implementation("ours", ours_product),
        Implementation("autograd twice", by_two_derivatives),
    ),
    flops=lambda inputs: 6.0 * len(inputs.outputs) * inputs.queries.numel(),
    bytes=lambda size, width: width * size.d * (size.N + 2 * size.B) + 4.0 * size.d * size.B,
)
RETRIEVAL = Function(
    name="retrieval",
    make_inputs=make_inputs,
    reference=exact_statistics,
    implementations=(
        Implementation("ours", ours_statistics),
        Implementation("torch eager", from_logits(_statistics)),
        Implementation(
            "torch.compile", lambda inputs: from_logits(peers.compiled(_statistics))(inputs)
        ),
        Implementation("one GEMM", products(1), bound=True),
    ),
    flops=lambda inputs: 2.0 * len(inputs.outputs) * inputs.queries.numel(),
    bytes=lambda size, width: width * size.d * (size.N + size.B) + 24.0 * size.B,
)

LOSSES = Function(
    name="softmax_statistics",
    make_inputs=make_inputs,
    reference=exact_losses,
    implementations=(
        Implementation("ours", ours_losses),
        Implementation("autograd", losses_from_logits),
    ),
    flops=lambda inputs: 12.0 * len(inputs.outputs) * inputs.queries.numel(),
    bytes=lambda size, width: 2.0 * width * size.d * (size.N + size.B),
)

_CPU = [Size(1024, 32768, 64), Size(1024, 32768, 256)]
_GPU = [Size(4096, 131072, d) for d in (64, 128, 256, 512, 1024, 2048)]
CASES: list[Case] = [
    *GRADIENT.cases("cpu", _CPU, "float32"),
    *GRADIENT.cases("cuda", _GPU, "bfloat16"),
    *GRADIENT.cases("cuda", (_GPU[1], _GPU[3]), "float16", "tf32", "tf32x3", "float32"),
    *PRODUCT.cases("cpu", _CPU[:1], "float32"),
    *PRODUCT.cases("cuda", _GPU, "bfloat16"),
    *LOSSES.cases("cpu", _CPU[1:], "float32"),
    *LOSSES.cases("cuda", _GPU[1:2], "bfloat16"),
    *RETRIEVAL.cases("cpu", _CPU[:1], "float32"),
    *RETRIEVAL.cases("cuda", _GPU, "bfloat16"),
]

QUICK: list[Case] = [
    case
    for function in (GRADIENT, PRODUCT, LOSSES, RETRIEVAL)
    for case in (
        *function.cases("cpu", [Size(128, 4096, 64)], "float32"),
        *function.cases("cuda", [Size(2048, 32768, 128)], "bfloat16"),
    )
]
