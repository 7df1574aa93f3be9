"""Which matrices Muon orthogonalises: kernels, batches, the heads of a fused projection."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from memsolve_kernels import matrix_sign
from memsolve_kernels.errors import RangeError, ShapeError
from torch import Tensor, nn
from torch.nn import Parameter

from memsolve.optim import Muon


def step(gradient: Tensor, **settings: Any) -> Tensor:
    """The change of a parameter by one step of size 1."""
    param = Parameter(torch.zeros_like(gradient))
    param.grad = gradient
    Muon([param], lr=1.0, momentum=0.0, **settings).step()
    return -param.detach()


@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (8, 4, 5), (32, 1, 3, 3), (2, 3, 2, 2, 2)])
def test_a_kernel_is_one_matrix_of_its_output_channels(shape: tuple[int, ...]) -> None:
    gradient = torch.randn(shape, dtype=torch.float64)
    flat = matrix_sign(gradient.flatten(1))
    adjustment = max(1, flat.shape[0] / flat.shape[1]) ** 0.5
    torch.testing.assert_close(step(gradient), adjustment * flat.reshape(shape))
    assert step(gradient).norm().item() == pytest.approx(adjustment * math.sqrt(min(flat.shape)))


def test_the_layout_of_a_kernel_does_not_matter() -> None:
    kernel = nn.Conv2d(8, 16, 3)
    kernel.weight.data = kernel.weight.data.to(memory_format=torch.channels_last)
    kernel(torch.randn(2, 8, 5, 5)).square().sum().backward()
    assert kernel.weight.grad is not None
    before, gradient = kernel.weight.detach().clone(), kernel.weight.grad.clone()
    Muon([kernel.weight], lr=1.0, momentum=0.0).step()
    expected = matrix_sign(gradient.flatten(1)).reshape(gradient.shape)
    torch.testing.assert_close(before - kernel.weight, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_dims", [1, np.int64(2)])
def test_a_batch_of_matrices_is_asked_for(batch_dims: int) -> None:
    gradient = torch.randn(2, 3, 6, 4, dtype=torch.float64)
    result = step(gradient, batch_dims=batch_dims)
    matrices = gradient.flatten(0, batch_dims - 1).flatten(2)
    for ours, matrix in zip(result.flatten(0, batch_dims - 1).flatten(2), matrices, strict=True):
        scale = max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
        torch.testing.assert_close(ours, scale * matrix_sign(matrix))


@pytest.mark.parametrize("adjust", [None, "match_rms_adamw"])
def test_heads_are_blocks_of_rows_with_the_adjustment_of_their_own(adjust: str | None) -> None:
    heads = torch.randn(6, 8, 4, dtype=torch.float64)
    scale = 0.2 * 8**0.5 if adjust else 2**0.5
    result = step(heads.flatten(0, 1), heads=6, adjust_lr_fn=adjust)
    torch.testing.assert_close(result.reshape(6, 8, 4), scale * matrix_sign(heads))


def test_heads_of_each_of_a_batch() -> None:
    layers = torch.randn(2, 6, 5, dtype=torch.float64)
    result = step(layers, heads=3, batch_dims=1)
    expected = matrix_sign(layers.reshape(2, 3, 2, 5)).reshape(2, 6, 5)
    torch.testing.assert_close(result, expected)


def test_heads_and_whole_matrices_of_one_shape_step_alike_in_groups_of_their_own() -> None:
    gradients = torch.randn(2, 6, 5, dtype=torch.float64)
    params = [Parameter(torch.zeros(6, 5, dtype=torch.float64)) for _ in gradients]
    for param, gradient in zip(params, gradients, strict=True):
        param.grad = gradient
    groups: list[dict[str, Any]] = [{"params": params[:1], "heads": 3}, {"params": params[1:]}]
    Muon(groups, lr=1.0, momentum=0.0).step()
    for param, gradient, settings in zip(params, gradients, ({"heads": 3}, {}), strict=True):
        torch.testing.assert_close(-param.detach(), step(gradient, **settings))


@pytest.mark.parametrize("shape", [(5, 0), (0, 5), (0, 3, 3)])
def test_what_is_empty_is_left_alone(shape: tuple[int, ...]) -> None:
    assert step(torch.zeros(shape)).shape == shape


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((3,), {}, r"parameter 'model\.x' has shape \(3,\); Muon takes matrices of two dimensions"),
        ((4, 1, 1), {}, r"parameter 'model\.x' has shape \(4, 1, 1\), which is a vector"),
        ((1, 4, 1), {}, "which is a vector"),
        ((2, 4, 1, 1), {"batch_dims": 1}, "which is a vector"),
        ((2, 4), {"batch_dims": 1}, "after batch_dims=1 batch dimensions"),
        ((4, 4), {"heads": 3}, "heads=3 does not divide its rows"),
    ],
)
def test_a_parameter_without_matrices_is_refused_by_name(
    shape: tuple[int, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        Muon([("model.x", Parameter(torch.zeros(shape)))], **settings)


def test_of_a_module_the_bias_is_named() -> None:
    with pytest.raises(ShapeError, match=r"parameter '0\.bias' has shape"):
        Muon(nn.Sequential(nn.Linear(2, 3)).named_parameters())


@pytest.mark.parametrize("shape", [(7, 1), (1, 7)])
def test_one_row_or_column_is_divided_by_its_length(shape: tuple[int, int]) -> None:
    gradient = torch.randn(shape, dtype=torch.float64)
    adjustment = max(1, shape[0] / shape[1]) ** 0.5
    torch.testing.assert_close(step(gradient), adjustment * gradient / gradient.norm())


@pytest.mark.parametrize(("name", "least"), [("batch_dims", 0), ("heads", 1)])
@pytest.mark.parametrize("bad", [-1, 1.5, None, "2"])
def test_invalid_counts_are_refused(name: str, least: int, bad: Any) -> None:
    settings: dict[str, Any] = {name: bad}
    with pytest.raises(RangeError, match=f"{name} is .*integer of at least {least}"):
        Muon([Parameter(torch.zeros(2, 2))], **settings)


def test_a_checkpoint_without_these_options_loads() -> None:
    param = Parameter(torch.zeros(4, 2))
    optimizer = Muon([param], heads=2)
    state = copy.deepcopy(optimizer.state_dict())
    for group in state["param_groups"]:
        del group["batch_dims"], group["heads"]
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["heads"] == 2


def test_an_optimizer_pickled_without_these_options_loads() -> None:
    optimizer = Muon([Parameter(torch.zeros(4, 2))])
    former = pickle.loads(pickle.dumps(optimizer.__getstate__()))
    for settings in (former["defaults"], *former["param_groups"]):
        del settings["batch_dims"], settings["heads"]
    loaded = Muon.__new__(Muon)
    loaded.__setstate__(former)
    assert loaded.param_groups[0]["heads"] == loaded.defaults["heads"] == 1
    loaded.add_param_group({"params": [Parameter(torch.zeros(2, 2))]})
