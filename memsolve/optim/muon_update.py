"""A step of Muon in two parts: the signs, which can fail, and the change of the weights."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from memsolve_kernels.matrix_sign import matrix_sign
from torch import Tensor

from memsolve.optim.blocks import Blocks, blocks_of
from memsolve.optim.muon_checks import SIGN_SETTINGS, AdjustLr, Group


class GroupTensors(NamedTuple):
    """The parameters of a group that have a gradient.

    Attributes:
        group: their hyperparameters.
        params: the parameters.
        gradients: of their shapes.
        means: the running mean of each gradient, which is the gradient itself without momentum.
    """

    group: Group
    params: list[Tensor]
    gradients: list[Tensor]
    means: list[Tensor]


class Batch(NamedTuple):
    """Parameters of a group whose matrices have one shape, dtype and device, as `GroupTensors`.

    Attributes:
        blocks: the matrices of each parameter.
    """

    group: Group
    params: list[Tensor]
    gradients: list[Tensor]
    means: list[Tensor]
    blocks: list[Blocks]


class Update(NamedTuple):
    """The step of a batch: the sign of each parameter, in its shape and dtype."""

    batch: Batch
    signs: list[Tensor]


def compute_updates(groups: Iterable[GroupTensors]) -> list[Update]:
    """The updates of groups, `h_damping(M)` of every parameter; changes nothing.

    Raises:
        InputError: a setting or matrix that `matrix_sign` refuses.
    """
    return [Update(batch, _signs(batch)) for tensors in groups for batch in _batches(tensors)]


def apply_updates(updates: list[Update]) -> None:
    """Advance running means and parameters. Overwrites the signs."""
    for batch, signs in updates:
        _apply(batch, signs)


def _batches(tensors: GroupTensors) -> list[Batch]:
    """The parameters of a group that step as one batch; empty ones are left out."""
    group, params, gradients, means = tensors
    batches: dict[Any, Batch] = {}
    for index, param in enumerate(params):
        if param.numel():
            blocks = blocks_of(param.shape, group["batch_dims"], group["heads"])
            alone = index if group["foreach"] is False else None
            key = blocks[1:], param.dtype, param.device, alone
            batch = batches.setdefault(key, Batch(group, [], [], [], []))
            batch.params.append(param)
            batch.gradients.append(gradients[index])
            batch.means.append(means[index])
            batch.blocks.append(blocks)
    return list(batches.values())


def _signs(batch: Batch) -> list[Tensor]:
    """`h_damping(M)` of each parameter, in its shape and dtype."""
    directions, blocks = _directions(batch), batch.blocks
    matrices = [M.reshape(each) for M, each in zip(directions, blocks, strict=True)]
    signs = torch.split(_sign(torch.cat(matrices), batch.group), [each.matrices for each in blocks])
    return [
        sign.reshape(param.shape).to(param.dtype)
        for sign, param in zip(signs, batch.params, strict=True)
    ]


def _apply(batch: Batch, signs: list[Tensor]) -> None:
    group, params = batch.group, batch.params
    if group["momentum"]:
        torch._foreach_lerp_(batch.means, _gradients(batch), 1 - group["momentum"])
    lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
    adjusted_lr = lr * _adjustment(group["adjust_lr_fn"], batch.blocks[0])
    torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
    if isinstance(adjusted_lr, Tensor):  # on any device, and may change without a recompilation
        torch._foreach_mul_(signs, -adjusted_lr)
        torch._foreach_add_(params, signs)
    else:
        torch._foreach_add_(params, signs, alpha=-adjusted_lr)


def _gradients(batch: Batch) -> list[Tensor]:
    """The gradients, rounded and negated if the group requires it."""
    gradients, rounding = batch.gradients, batch.group["gradient_dtype"]
    if rounding is not None:
        gradients = [gradient.to(rounding).to(gradient.dtype) for gradient in gradients]
    return list(torch._foreach_neg(gradients)) if batch.group["maximize"] else gradients


def _directions(batch: Batch) -> Sequence[Tensor]:
    """`M` of each parameter, with the running mean as it will be after the step."""
    gradients, momentum = _gradients(batch), batch.group["momentum"]
    if momentum == 0:
        return gradients
    means = torch._foreach_lerp(batch.means, gradients, 1 - momentum)
    return torch._foreach_lerp(gradients, means, momentum) if batch.group["nesterov"] else means


def _sign(directions: Tensor, group: Group) -> Tensor:
    """`h` of a batch of matrices (k, m, n), by the settings of a group."""
    settings = {name: group[name] for name in SIGN_SETTINGS}
    if not group["relative_damping"]:
        return matrix_sign(directions, **settings)
    norms = torch.linalg.matrix_norm(directions, 2).tolist()
    return torch.stack(
        [
            matrix_sign(direction, **settings | {"damping": group["relative_damping"] * norm})
            for direction, norm in zip(directions, norms, strict=True)
        ]
    )


def _adjustment(name: AdjustLr | None, blocks: Blocks) -> float:
    """The factor of the learning rate for matrices of one shape."""
    if name == "match_rms_adamw":
        return 0.2 * math.sqrt(max(blocks.rows, blocks.columns))
    return math.sqrt(max(1, blocks.rows / blocks.columns))
