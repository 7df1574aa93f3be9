"""A step of Muon in two parts: the signs, which can fail, and the change of the weights."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from memsolve_kernels.matrix_sign import matrix_sign
from torch import Tensor

from memsolve.optim.blocks import Blocks, blocks_of
from memsolve.optim.muon_checks import AdjustLr, Group


class Batch(NamedTuple):
    """Parameters of a group whose matrices have one shape, dtype and device.

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

    @property
    def blocks(self) -> list[Blocks]:
        """The matrices of each parameter."""
        return [_blocks(self.group, param) for param in self.params]


def batches(
    group: Group, params: list[Tensor], gradients: list[Tensor], means: list[Tensor]
) -> list[Batch]:
    """The parameters of a group that step together, but for empty ones."""
    alike = defaultdict(list)
    for at, param in enumerate(params):
        if param.numel():
            alone = at if group["foreach"] is False else None
            matrix = _blocks(group, param)[1:]
            alike[matrix, param.dtype, param.device, alone].append(at)
    return [
        Batch(group, *([tensors[at] for at in batch] for tensors in (params, gradients, means)))
        for batch in alike.values()
    ]


def steps_of(batch: Batch) -> list[Tensor]:
    """`h_damping(M)` of each parameter, in its shape and dtype; changes nothing.

    Raises:
        InputError: `matrix_sign` fails.
    """
    directions, blocks = _directions(batch), batch.blocks
    matrices = [M.reshape(each) for M, each in zip(directions, blocks, strict=True)]
    signs = torch.split(_sign(torch.cat(matrices), batch.group), [each.matrices for each in blocks])
    return [
        sign.reshape(param.shape).to(param.dtype)
        for sign, param in zip(signs, batch.params, strict=True)
    ]


def apply(batch: Batch, steps: list[Tensor]) -> None:
    """Move running means and parameters on, by the steps, which are overwritten."""
    group, params = batch.group, batch.params
    if group["momentum"]:
        torch._foreach_lerp_(batch.means, _gradients(batch), 1 - group["momentum"])
    lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
    rate = lr * _adjustment(group["adjust_lr_fn"], batch.blocks[0])
    torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
    if isinstance(rate, Tensor):  # it may be on a GPU, and changes without a new compilation
        torch._foreach_mul_(steps, -rate)
        torch._foreach_add_(params, steps)
    else:
        torch._foreach_add_(params, steps, alpha=-rate)


def _blocks(group: Group, param: Tensor) -> Blocks:
    return blocks_of(param.shape, group["batch_dims"], group["heads"])


def _gradients(batch: Batch) -> list[Tensor]:
    """The gradients, rounded and negated as the group says."""
    gradients, rounding = batch.gradients, batch.group["gradient_dtype"]
    if rounding is not None:
        gradients = [gradient.to(rounding).to(gradient.dtype) for gradient in gradients]
    return list(torch._foreach_neg(gradients)) if batch.group["maximize"] else gradients


def _directions(batch: Batch) -> Sequence[Tensor]:
    """`M` of each parameter, with the running mean as it will be."""
    gradients, momentum = _gradients(batch), batch.group["momentum"]
    if momentum == 0:
        return gradients
    means = torch._foreach_lerp(batch.means, gradients, 1 - momentum)
    return torch._foreach_lerp(gradients, means, momentum) if batch.group["nesterov"] else means


def _sign(directions: Tensor, group: Group) -> Tensor:
    """`h` of a batch of matrices (k, m, n), by the settings of a group."""
    settings = {name: group[name] for name in ("schedule", "dtype", "precision", "backend")}
    relative = group["relative_damping"]
    if not relative:
        return matrix_sign(directions, group["damping"], **settings)
    sizes = torch.linalg.matrix_norm(directions, 2).tolist()
    return torch.stack(
        [
            matrix_sign(direction, relative * size, **settings)
            for direction, size in zip(directions, sizes, strict=True)
        ]
    )


def _adjustment(name: AdjustLr | None, blocks: Blocks) -> float:
    if name == "match_rms_adamw":
        return 0.2 * math.sqrt(max(blocks.rows, blocks.columns))
    return math.sqrt(max(1, blocks.rows / blocks.columns))
