"""A step of Muon that raises has changed nothing: no weight, no momentum, no state."""

import copy
from decimal import Decimal
from typing import Any

import pytest
import torch
from memsolve_kernels.errors import (
    BackendError,
    DtypeError,
    InputError,
    NonFiniteError,
    RangeError,
    ShapeError,
)
from memsolve_kernels.matrix_sign import Polynomial, Schedule
from torch import Tensor
from torch.nn import Parameter

from memsolve.optim import Muon

EXPLODING = Schedule("explode", (Polynomial(40.0, -1.0, 1.0),) * 8, 1e-3)


def make(**second: Any) -> tuple[list[Parameter], Muon]:
    """Two groups of one matrix each, and what is particular of the second."""
    params = [Parameter(torch.ones(3, 3)) for _ in range(2)]
    names: list[dict[str, Any]] = [
        {"params": [("first", params[0])]},
        {"params": [("second", params[1])], **second},
    ]
    for param in params:
        param.grad = torch.randn(3, 3)
    return params, Muon(names, lr=0.1, weight_decay=0.1)


def everything(params: list[Parameter], optimizer: Muon) -> list[Tensor]:
    buffers = [value for state in optimizer.state.values() for value in state.values()]
    return [each.detach().clone() for each in (*params, *buffers)]


FAILURES: list[tuple[dict[str, Any], Tensor | None, type[InputError], str]] = [
    ({"schedule": EXPLODING}, None, NonFiniteError, "diverged"),
    ({"schedule": "muon", "backend": "reference"}, None, BackendError, "SVD"),
    ({}, torch.full((3, 3), torch.nan), NonFiniteError, "gradient of parameter 'second' contains"),
    (
        {"gradient_dtype": torch.float16},
        torch.full((3, 3), 1e6),
        NonFiniteError,
        "parameter 'second' contains infinity once it is rounded to gradient_dtype=torch.float16",
    ),
    ({}, torch.eye(3).to_sparse(), DtypeError, "gradient of parameter 'second' has layout"),
]


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize(("second", "gradient", "error", "message"), FAILURES)
def test_the_other_group_has_not_stepped(
    second: dict[str, Any],
    gradient: Tensor | None,
    error: type[InputError],
    message: str,
    foreach: bool | None,
    started: bool,
) -> None:
    params, optimizer = make(**second, foreach=foreach)
    if started:
        good = {"schedule": None, "backend": None}
        optimizer.param_groups[1].update(good)
        optimizer.step()
        optimizer.param_groups[1].update({name: second.get(name) for name in good})
    if gradient is not None:
        params[1].grad = gradient
    before = everything(params, optimizer)
    with pytest.raises(error, match=message):
        optimizer.step()
    after = everything(params, optimizer)
    assert len(after) == len(before) == (4 if started else 2)
    assert all(torch.equal(one, other) for one, other in zip(after, before, strict=True))


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        ({"damping": -1.0}, RangeError),
        ({"momentum": 1.0}, RangeError),
        ({"schedule": "moun"}, RangeError),
        ({"lr": torch.tensor(-0.1)}, RangeError),
        ({"lr": torch.ones(2)}, ShapeError),
        ({"lr": Decimal("0.1")}, RangeError),
        ({"weight_decay": "0.1"}, RangeError),
        ({"heads": 0}, RangeError),
        ({"heads": 2}, ShapeError),
        ({"batch_dims": 1}, ShapeError),
    ],
)
def test_a_group_that_was_edited_is_checked_before_the_first_steps(
    edit: dict[str, Any], error: type[InputError]
) -> None:
    params, optimizer = make()
    optimizer.param_groups[1].update(edit)
    with pytest.raises(error, match=next(iter(edit))):
        optimizer.step()
    assert torch.equal(params[0], torch.ones(3, 3))
    assert not optimizer.state


def test_after_a_failure_it_goes_on_as_if_nothing_had_been() -> None:
    params, optimizer = make(gradient_dtype=torch.float16)
    others = copy.deepcopy(params)
    second: dict[str, Any] = {"params": others[1:], "gradient_dtype": torch.float16}
    other = Muon([{"params": others[:1]}, second], lr=0.1, weight_decay=0.1)
    gradients = torch.randn(3, 2, 3, 3)
    for at, pair in enumerate(gradients):
        if at == 1:
            params[1].grad = torch.full((3, 3), 1e6)
            with pytest.raises(NonFiniteError):
                optimizer.step()
        for each, name in ((params, optimizer), (others, other)):
            for param, gradient in zip(each, pair, strict=True):
                param.grad = gradient
            name.step()
    assert all(torch.equal(one, two) for one, two in zip(params, others, strict=True))
