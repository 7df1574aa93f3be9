"""Error bounds of the Triton kernels of the softmax, against float64 and relative to torch."""

from collections.abc import Iterable

import memsolve_kernels as mk
import torch
from memsolve_kernels.dispatch import BackendName, Precision
from torch import Tensor

from tests.kernels.softmax_cases import Case, autograd, by_torch, ours, relative_error
from tests.kernels.softmax_full import Tracked, every_option, statistics

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Triton's tf32 is cut to ten bits where cuBLAS rounds: an error of up to 2^-10 an operand, towards
# zero. A result here has been through two products of two operands: 4 * 2^-10. tf32x3 rounds both,
# and what that leaves: up to 2^-11 * 2^-11 for either operand and once more for the product that it
# leaves out, of two products 6 * 2^-22, and far less in the mean (see `tensor_cores.py`).
TRUNCATION: dict[Precision, float] = {"tf32": 2.0**-8, "tf32x3": 2.0**-20}
SUMS = 2.0**-20  # of tensor cores in float32: products of halves are exact, and so are the logits


PASSES = ("gradient", "hvp", "second derivative", "outputs", "rank")
"""Each by the kernels that it takes: `softmax_hvp` may have one for gradient and product, and the
second derivative by autograd keeps the first pass for a second one."""


def check(case: Case, precision: Precision | None = None, passes: Iterable[str] = PASSES) -> None:
    """Errors are at most twice those of torch in the same precision, or due to rounding."""
    exact, case = case.to(torch.float64), case.on(DEVICE)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    peers = {name: by_autograd(name, case) for name in passes}
    torch.backends.cuda.matmul.allow_tf32 = False
    eps = torch.finfo(case.queries.dtype).eps
    rounding = eps if precision is None else TRUNCATION.get(precision, eps)
    for name in passes:
        if name == "rank":
            check_retrieval(case, exact, precision)
            continue
        values = by_kernels(name, case, "triton", precision)
        truths = by_kernels(name, exact, "reference")
        for value, peer, truth in zip(values, peers[name], truths, strict=True):
            assert_as_close(value.cpu(), peer.cpu(), truth, rounding)


def by_kernels(
    name: str, case: Case, backend: BackendName, precision: Precision | None = None
) -> tuple[Tensor, ...]:
    """The results of a pass but "rank"."""
    directions = case.queries.flip(0).contiguous()
    queries, *others = case.args
    match name:
        case "gradient":
            return mk.softmax_gradient(*case.args, backend=backend, precision=precision)
        case "hvp":
            options = {"backend": backend, "precision": precision}
            return (mk.softmax_hvp(queries, directions, *others, **options),)  # type: ignore[arg-type]
        case "outputs":
            return (ours(case, backend, precision)[2],)
    queries = queries.clone().requires_grad_()
    loss = mk.softmax_loss(queries, *others, backend=backend, precision=precision)
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    return torch.autograd.grad((gradient * directions).sum(), queries)


def by_autograd(name: str, case: Case) -> tuple[Tensor, ...]:
    """As `by_kernels`, by torch in the precision of the case."""
    match name:
        case "gradient":
            return autograd(case)[:2]
        case "outputs":
            return (by_torch(case)[2],)
        case "rank":
            return ()
    product = autograd(case, case.queries.flip(0).contiguous())[2]
    assert product is not None
    return (product,)


def assert_as_close(value: Tensor, peer: Tensor, truth: Tensor, rounding: float) -> None:
    """The value errs at most twice as much as its peer, or by rounding."""
    if truth.any():
        bound = max(2 * relative_error(peer, truth), rounding)
        assert relative_error(value, truth) <= bound
    else:
        assert not value.any()


def check_retrieval(case: Case, exact: Case, precision: Precision | None = None) -> None:
    """Statistics err by the products' rounding; of halves, by that of float32 sums alone."""
    half = case.queries.dtype != torch.float32
    rounding = SUMS if half else TRUNCATION.get(precision or "ieee", torch.finfo().eps)
    tolerance = 10 * rounding
    statistics = mk.retrieval(*case.args[:3], backend="triton", precision=precision)
    truth = mk.retrieval(*exact.args[:3], backend="reference")
    for name in ("log_partition", "target_logit", "margin", "loss"):
        torch.testing.assert_close(
            getattr(statistics, name).cpu().double(),
            getattr(truth, name),
            rtol=tolerance,
            atol=tolerance,
        )
    logits = exact.queries @ exact.outputs.T
    near = (logits - truth.target_logit[:, None]).abs() < tolerance * logits.abs().max()
    assert torch.all((statistics.rank.cpu() - truth.rank).abs() < near.sum(1))


def check_statistics(case: Case) -> None:
    """Losses by every option, entropies and their gradients err at most as torch's, twice."""
    options, dtype = every_option(len(case.outputs)), case.queries.dtype
    results = []
    for precision, by_kernels in ((torch.float64, False), (dtype, False), (dtype, True)):
        tracked = Tracked.of(case.to(torch.float64), options, precision).on(DEVICE)
        if by_kernels:
            arguments = vars(tracked.options) | {"backend": "triton"}
            values = mk.softmax_statistics(*tracked.case.args[:3], **arguments)._asdict()
        else:
            values = statistics(tracked.case, tracked.options)
        loss = values["loss"] - 0.3 * values["entropy"] + 0.1 * values["log_partition"]
        every = values | tracked.gradients(loss.double().mean())
        results.append({name: each.detach().cpu() for name, each in every.items()})
    truth, peer, ours = results
    rounding = max(torch.finfo(dtype).eps, 16 * SUMS)
    for name, exact in truth.items():
        if exact.abs().max() > 1e-12:
            bound = max(2 * relative_error(peer[name], exact), rounding)
            assert relative_error(ours[name], exact) <= bound, name
