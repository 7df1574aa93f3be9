"""How much the Triton kernels of the softmax may err, against float64 and beside torch."""

import memsolve_kernels as mk
import torch
from memsolve_kernels.dispatch import BackendName, Precision
from torch import Tensor

from tests.kernels.softmax_cases import Case, autograd, by_torch, ours, relative_error

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Triton's tf32 is cut to ten bits where cuBLAS rounds: an error of up to 2^-10 an operand, towards
# zero. A result here has been through two products of two operands: 4 * 2^-10. tf32x3 rounds both,
# and what that leaves: up to 2^-11 * 2^-11 for either operand and once more for the product that it
# leaves out, of two products 6 * 2^-22, and far less in the mean (see `tensor_cores.py`).
TRUNCATION: dict[Precision, float] = {"tf32": 2.0**-8, "tf32x3": 2.0**-20}
SUMS = 2.0**-20  # of tensor cores in float32: products of halves are exact, and so are the logits


def check(case: Case, precision: Precision | None = None) -> None:
    """Every function errs at most twice as much as torch in the same precision, or by rounding."""
    exact, case = case.to(torch.float64), case.on(DEVICE)
    directions = case.queries.flip(0).contiguous()
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    peers = *autograd(case, directions), by_torch(case)[2]
    torch.backends.cuda.matmul.allow_tf32 = False
    truths = functions(exact, directions.cpu().double(), "reference")
    values = functions(case, directions, "triton", precision)
    eps = torch.finfo(case.queries.dtype).eps
    rounding = eps if precision is None else TRUNCATION.get(precision, eps)
    for value, peer, truth in zip(values, peers, truths, strict=True):
        assert peer is not None
        assert_as_close(value.cpu(), peer.cpu(), truth, rounding)
    check_retrieval(case, exact, precision)


def functions(
    case: Case, directions: Tensor, backend: BackendName, precision: Precision | None = None
) -> tuple[Tensor, ...]:
    """Loss, gradient, Hessian product, and the gradient by the outputs."""
    how = {"backend": backend, "precision": precision}
    loss, gradient = mk.softmax_gradient(*case.args, **how)  # type: ignore[arg-type]
    product = mk.softmax_hvp(case.queries, directions, *case.args[1:], **how)  # type: ignore[arg-type]
    return loss, gradient, product, ours(case, backend, precision)[2]


def check_second_derivative(case: Case) -> None:
    """As `check`, the Hessian product by autograd, which keeps the first pass for a second one."""
    exact, case = case.to(torch.float64), case.on(DEVICE)
    directions = case.queries.flip(0).contiguous()
    queries = case.queries.clone().requires_grad_()
    loss = mk.softmax_loss(queries, *case.args[1:], backend="triton")
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    (value,) = torch.autograd.grad((gradient * directions).sum(), queries)
    peer = autograd(case, directions)[2]
    assert peer is not None
    along = directions.cpu().double()
    truth = mk.softmax_hvp(exact.queries, along, *exact.args[1:], backend="reference")
    assert_as_close(value.cpu(), peer.cpu(), truth, torch.finfo(queries.dtype).eps)


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
    found = mk.retrieval(*case.args[:3], backend="triton", precision=precision)
    truth = mk.retrieval(*exact.args[:3], backend="reference")
    for name in ("log_partition", "target_logit", "margin", "loss"):
        torch.testing.assert_close(
            getattr(found, name).cpu().double(),
            getattr(truth, name),
            rtol=tolerance,
            atol=tolerance,
        )
    logits = exact.queries @ exact.outputs.T
    near = (logits - truth.target_logit[:, None]).abs() < tolerance * logits.abs().max()
    assert torch.all((found.rank.cpu() - truth.rank).abs() < near.sum(1))
