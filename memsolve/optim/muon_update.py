"""A step of Muon in two parts: the signs, which can fail, and the change of the weights."""

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from math import prod
from typing import Any, NamedTuple

import torch
from memsolve_kernels.matrix_sign import matrix_sign
from torch import Tensor

from memsolve.optim.blocks import Blocks, blocks_of
from memsolve.optim.kahan import WIDE, join_all, split_all
from memsolve.optim.muon_agreement import Ranks, agreement
from memsolve.optim.muon_checks import SIGN_SETTINGS, AdjustLr, Group
from memsolve.optim.muon_layout import Layout
from memsolve.optim.muon_ranks import Exchange, Owners, exchanges_of, gather, scatter


class GroupTensors(NamedTuple):
    """The parameters of a group that have a gradient, each the part of it on this rank.

    Attributes:
        group: their hyperparameters.
        params: the parameters.
        gradients: of their shapes.
        means: the running mean of each gradient, which is the gradient itself without momentum.
        compensations: of each parameter, for Kahan summation, or None.
        layouts: what the ranks exchange to complete the matrices of each parameter.
    """

    group: Group
    params: list[Tensor]
    gradients: list[Tensor]
    means: list[Tensor]
    compensations: list[Tensor | None]
    layouts: list[Layout]


class Batch(NamedTuple):
    """Parameters of a group whose matrices have one shape, dtype, device and axes.

    Attributes:
        blocks: the matrices of each parameter, complete. Others are those of `GroupTensors`.
    """

    group: Group
    params: list[Tensor]
    gradients: list[Tensor]
    means: list[Tensor]
    compensations: list[Tensor | None]
    layouts: list[Layout]
    blocks: list[Blocks]


class Update(NamedTuple):
    """The step of a batch: the sign of each parameter, in its shape, and in its dtype or `WIDE`."""

    batch: Batch
    signs: list[Tensor]


def compute_updates(groups: Iterable[GroupTensors], ranks: Ranks | None = None) -> list[Update]:
    """The updates of groups, `h_damping(M)` of every parameter; changes nothing.

    Args:
        groups: their tensors.
        ranks: that share the work; None if no layout has axes.

    Raises:
        InputError: a setting or matrix that `matrix_sign` refuses, on any of the ranks.
    """
    batches = [batch for tensors in groups for batch in _batches(tensors)]
    if ranks is None:
        return [_update(batch, _signs(batch, _directions(batch))) for batch in batches]
    owners = Owners()
    parts = [(batch, *_gather(batch, owners)) for batch in batches]
    with agreement(ranks):
        for batch, tensors, _ in parts:
            tensors[:] = _signs(batch, tensors)  # which frees the directions
    return [_update(batch, _scatter(batch, signs, exchanges)) for batch, signs, exchanges in parts]


def apply_updates(updates: list[Update]) -> None:
    """Advance running means and parameters. Overwrites the signs."""
    for batch, signs in updates:
        _apply(batch, signs)


def _batches(tensors: GroupTensors) -> list[Batch]:
    """The parameters of a group that step as one batch; empty ones are left out."""
    group, layouts = tensors.group, tensors.layouts
    batches: dict[Any, Batch] = {}
    for index, (param, mean) in enumerate(zip(tensors.params, tensors.means, strict=True)):
        layout = layouts[index]
        if prod(layout.shape):
            blocks = blocks_of(layout.shape, group["batch_dims"], group["heads"])
            alone = index if group["foreach"] is False else None
            key = blocks[1:], param.dtype, mean.dtype, param.device, alone, layout.axes
            batch = batches.setdefault(key, Batch(group, [], [], [], [], [], []))
            batch.params.append(param)
            batch.gradients.append(tensors.gradients[index])
            batch.means.append(mean)
            batch.compensations.append(tensors.compensations[index])
            batch.layouts.append(layout)
            batch.blocks.append(blocks)
    return list(batches.values())


def _update(batch: Batch, signs: Iterable[Tensor]) -> Update:
    parts = zip(signs, batch.params, batch.compensations, strict=True)
    return Update(
        batch,
        [
            sign.reshape(param.shape).to(param.dtype if rest is None else WIDE)
            for sign, param, rest in parts
        ],
    )


def _signs(batch: Batch, directions: Sequence[Tensor]) -> list[Tensor]:
    """`h_damping(M)` of tensors that hold complete matrices of a batch."""
    if not directions:
        return []
    _, rows, columns = batch.blocks[0]
    matrices = [M.reshape(-1, rows, columns) for M in directions]
    signs = torch.split(_sign(torch.cat(matrices), batch.group), [len(each) for each in matrices])
    return [sign.reshape(M.shape) for sign, M in zip(signs, directions, strict=True)]


def _gather(batch: Batch, owners: Owners) -> tuple[list[Tensor], list[Exchange]]:
    """The complete directions that this rank owns, and the exchanges that completed them.

    Ranks that hold the same share out single matrices; else a parameter has one owner.
    """
    directions, shapes = list(_directions(batch)), [layout.shape for layout in batch.layouts]
    _, rows, columns = batch.blocks[0]
    if _is_repeated(batch):
        directions = [M for each in directions for M in each.reshape(-1, rows, columns)]
        shapes = [(rows, columns)] * len(directions)
    flops = [prod(shape) * min(rows, columns) for shape in shapes]
    axes = batch.layouts[0].axes
    exchanges = exchanges_of(axes, shapes, owners.assign(axes, flops), like=directions[0])
    return gather(directions, exchanges), exchanges


def _scatter(batch: Batch, signs: list[Tensor], exchanges: list[Exchange]) -> list[Tensor]:
    """The signs of the batch on this rank, of the complete ones of all owners."""
    parts = scatter(signs, exchanges)
    if not _is_repeated(batch):
        return parts
    matrices = iter(parts)
    return [torch.stack(list(islice(matrices, each.matrices))) for each in batch.blocks]


def _is_repeated(batch: Batch) -> bool:
    """Whether ranks hold the same parameters."""
    axes = batch.layouts[0].axes
    return bool(axes) and all(axis.dim is None for axis in axes)


def _apply(batch: Batch, signs: list[Tensor]) -> None:
    group = batch.group
    if group["momentum"]:
        torch._foreach_lerp_(batch.means, _gradients(batch), 1 - group["momentum"])
    lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
    adjusted_lr = lr * _adjustment(group["adjust_lr_fn"], batch.blocks[0])
    params = join_all(batch.params, batch.compensations)
    torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
    if isinstance(adjusted_lr, Tensor):  # on any device, and may change without a recompilation
        torch._foreach_mul_(signs, -adjusted_lr)
        torch._foreach_add_(params, signs)
    else:
        torch._foreach_add_(params, signs, alpha=-adjusted_lr)
    split_all(params, batch.params, batch.compensations)


def _gradients(batch: Batch) -> list[Tensor]:
    """The gradients in the dtype of the running means, rounded and negated if required."""
    gradients, rounding = batch.gradients, batch.group["gradient_dtype"]
    if rounding is not None:
        gradients = [gradient.to(rounding).to(gradient.dtype) for gradient in gradients]
    gradients = [each.to(mean.dtype) for each, mean in zip(gradients, batch.means, strict=True)]
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
    settings, relative = {name: group[name] for name in SIGN_SETTINGS}, group["relative_damping"]
    if not relative:
        return matrix_sign(directions, **settings)
    if group["damping_norm"] == "frobenius":  # one batch, since `h` of a multiple is known
        return matrix_sign(_divide_by_norm(directions), **settings | {"damping": relative})
    norms = torch.linalg.matrix_norm(directions, 2).tolist()
    return torch.stack(
        [
            matrix_sign(direction, **settings | {"damping": relative * norm})
            for direction, norm in zip(directions, norms, strict=True)
        ]
    )


def _divide_by_norm(matrices: Tensor) -> Tensor:
    """Matrices divided by their Frobenius norms; zero stays zero."""
    norms = torch.linalg.vector_norm(matrices, dim=(-2, -1), keepdim=True, dtype=torch.float64)
    return (matrices / torch.where(norms == 0, 1, norms)).to(matrices.dtype)


def _adjustment(name: AdjustLr | None, blocks: Blocks) -> float:
    """The factor of the learning rate for matrices of one shape."""
    if name == "match_rms_adamw":
        return 0.2 * math.sqrt(max(blocks.rows, blocks.columns))
    return math.sqrt(max(1, blocks.rows / blocks.columns))
