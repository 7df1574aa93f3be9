"""The auxiliary AdamW of Muon, for groups with `use_muon=False`: torch's own function."""

from typing import NamedTuple

from torch import Tensor
from torch.optim.adamw import adamw

from memsolve.optim.kahan import join_all, split_all
from memsolve.optim.muon_checks import Group


class AdamWGroup(NamedTuple):
    """The parameters of a group that have a gradient; the lists hold `AdamWTensors`, by field."""

    group: Group
    params: list[Tensor]
    gradients: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]
    compensations: list[Tensor | None]


def apply_adamw(tensors: AdamWGroup) -> None:
    """Take a step, which on a CPU has the bits of `torch.optim.AdamW`."""
    group, params = tensors.group, join_all(tensors.params, tensors.compensations)
    lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
    one_by_one = isinstance(lr, Tensor) and not group["capturable"]  # torch refuses a batch then
    adamw(
        params,
        [each.to(param.dtype) for each, param in zip(tensors.gradients, params, strict=True)],
        tensors.means,
        tensors.squares,
        [],
        tensors.steps,
        foreach=False if one_by_one else group["foreach"],
        capturable=group["capturable"],
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=lr,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=group["maximize"],
    )
    split_all(params, tensors.params, tensors.compensations)
