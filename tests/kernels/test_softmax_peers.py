"""Properties of a head that cut-cross-entropy and Liger's fused linear cross-entropy test."""

from collections.abc import Callable
from typing import Literal

import memsolve_kernels as mk
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.kernels.softmax_cases import Case, relative_error

IGNORED = -100
SIZES = [(256, 512, 128), (252, 507, 128), (252, 507, 123), (141, 123, 31)]  # tokens, classes, d
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def head(size: tuple[int, int, int], *, ignored: bool) -> Case:
    """Hidden states and a classifier as a language model has them, and each token's label."""
    case = Case.random(*size, scale=2.0, seed=sum(size))
    if ignored:
        case.targets[:: len(case.targets) // 25] = IGNORED
    return case


def ours(reduction: Literal["mean", "none"]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def loss(hidden: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
        if reduction == "none":
            return mk.softmax_loss(hidden, classes, labels, reduction="none", ignore_index=IGNORED)
        return mk.softmax_loss(hidden, classes, labels, ignore_index=IGNORED)

    return loss


def by_torch(reduction: Literal["mean", "none"]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def loss(hidden: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
        logits = hidden @ classes.T
        sums = logits if logits.dtype == torch.float64 else logits.float()
        return cross_entropy(sums, labels, ignore_index=IGNORED, reduction=reduction)

    return loss


def results(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], case: Case, scale: float
) -> tuple[Tensor, ...]:
    """Loss and gradients by hidden states and classes, of `scale` times the loss."""
    hidden, classes = (each.clone().requires_grad_() for each in (case.queries, case.outputs))
    losses = loss(hidden, classes, case.targets)
    (scale * losses).sum().backward()
    assert hidden.grad is not None
    assert classes.grad is not None
    assert (hidden.grad.dtype, classes.grad.dtype) == (hidden.dtype, classes.dtype)
    return losses.detach(), hidden.grad, classes.grad


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_errs_no_more_than_twice_torch(
    size: tuple[int, int, int],
    dtype: torch.dtype,
    reduction: Literal["mean", "none"],
    ignored: bool,
) -> None:
    rounded = head(size, ignored=ignored).to(dtype)
    scale = 64.0  # half precision's gradients of a mean would be subnormal
    truth = results(by_torch(reduction), rounded.to(torch.float64), scale)
    values = results(ours(reduction), rounded, scale)
    peer = results(by_torch(reduction), rounded, scale)
    for value, theirs, exact in zip(values, peer, truth, strict=True):
        rounding = 2 * torch.finfo(value.dtype).eps  # of a mean's sum and quotient
        assert relative_error(value, exact) <= max(2 * relative_error(theirs, exact), rounding)


@pytest.mark.parametrize("lowered", [torch.bfloat16, torch.float16])
def test_mixed_precision_errs_no_more_than_twice_torch(lowered: torch.dtype) -> None:
    """Weights in float32, hidden states and products in half precision: what autocast makes."""
    case = head((252, 507, 123), ignored=True).to(torch.float32)

    def fused(hidden: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=lowered):
            return ours("none")(hidden.to(lowered), classes.to(lowered), labels)

    def unfused(hidden: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=lowered):
            return by_torch("none")(hidden, classes, labels)

    truth = results(by_torch("none"), case.to(torch.float64), 64.0)
    values, peer = results(fused, case, 64.0), results(unfused, case, 64.0)
    for value, theirs, exact in zip(values, peer, truth, strict=True):
        assert relative_error(value, exact) <= 2 * relative_error(theirs, exact)


def test_a_bias_is_one_more_dimension() -> None:
    case = head((252, 507, 123), ignored=False)
    bias = torch.linspace(-1, 1, 507, dtype=torch.float64)
    hidden = torch.cat([case.queries, torch.ones_like(case.queries[:, :1])], 1)
    classes = torch.cat([case.outputs, bias[:, None]], 1).requires_grad_()
    loss = mk.softmax_loss(hidden, classes, case.targets)
    (gradient,) = torch.autograd.grad(loss, classes)
    bias.requires_grad_()
    expected = cross_entropy(case.queries @ case.outputs.T + bias, case.targets)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient[:, -1], *torch.autograd.grad(expected, bias))


def test_hidden_states_of_a_sequence_may_be_shifted_views() -> None:
    """The label of a token is the next one, so that hidden states are a view without the last."""
    hidden = Case.random(4 * 20, 1, 16).queries.view(4, 20, 16)
    classes, tokens = Case.random(1, 50, 16).outputs, torch.arange(80).view(4, 20) % 50
    loss = mk.softmax_loss(hidden[:, :-1].flatten(0, 1), classes, tokens[:, 1:].flatten())
    logits = (hidden @ classes.T)[:, :-1]
    torch.testing.assert_close(loss, cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))
