"""Muon: momentum, then the damped matrix sign of it; and AdamW for what is no matrix."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, overload

import torch
from memsolve_kernels.dispatch import BackendName, Precision
from memsolve_kernels.matrix_sign import Polynomial, Schedule
from memsolve_kernels.modes import untraced
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.distributed import ProcessGroup
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from memsolve.optim.muon_adamw import AdamWGroup, apply_adamw
from memsolve.optim.muon_agreement import Ranks, agreement, describe, ranks_of
from memsolve.optim.muon_checks import (
    COUNTS,
    AdjustLr,
    DampingNorm,
    Group,
    check_group,
    check_placements,
    check_process_group,
    check_step,
)
from memsolve.optim.muon_groups import (
    AUXILIARY,
    LATER,
    complete_group,
    drop_settings_of_muon,
    prepare_group,
)
from memsolve.optim.muon_layout import is_dtensor
from memsolve.optim.muon_state import (
    adamw_tensors,
    convert_step_counts,
    matrix_tensors,
    no_new_state_on_error,
    restore_dtypes,
)
from memsolve.optim.muon_update import GroupTensors, apply_updates, compute_updates
from memsolve.optim.shared import evaluate, new_group

# A schedule is part of the optimizer's state, which torch.load reads with weights_only=True.
torch.serialization.add_safe_globals([Schedule, Polynomial])


class Muon(Optimizer):
    """Momentum, followed by the damped matrix sign of the momentum; AdamW for other parameters.

    A step is `W <- (1 - lr * weight_decay) W - lr * adjustment * h_damping(M)`. `M` is the running
    mean of the gradients, `M <- momentum M + (1 - momentum) G`; with `nesterov`, its look-ahead
    `momentum M + (1 - momentum) G`; without momentum, the gradient. `h_damping` is
    `memsolve_kernels.matrix_sign`, which by default resolves small singular values that the usual
    five Newton-Schulz steps lose. With `schedule="muon"`, `dtype=torch.bfloat16` and
    `weight_decay=0.1` the steps are those of `torch.optim.Muon`, up to rounding in bfloat16.

    A parameter of more than two dimensions is flattened to (rows, product of the others), so that
    the kernel of a convolution (out, in, height, width) is one matrix (out, in * height * width).
    With `batch_dims=b` the first b dimensions are batch dimensions, such as the experts of a layer.
    With `heads=h` the rows are h equal blocks, and each block is a matrix, to which the adjustment
    applies; a fused weight of queries, keys and values with k heads each has `heads=3 * k`. A
    matrix of one row or column is divided by its norm. A vector of more than two dimensions, such
    as (C, 1, 1), is refused.

    A group with `use_muon=False` is for AdamW: embeddings, heads, vectors and scalars. It has `lr`
    (3e-4), `betas` (0.9, 0.95), `eps` (1e-10) and `weight_decay` (0), with the defaults of Muon's
    author, and `capturable` (False); of the arguments below `maximize`, `foreach` and `kahan_sum`
    apply to it. Its steps are those of `torch.optim.AdamW`, on a CPU to the bit. `split_params`
    makes the groups. A name in a group that is no setting of it raises an error.

    A step that raises changes nothing: all checks are made, and all signs computed, before the
    first weight changes. A step therefore holds the signs of all parameters at a time, which take
    as much memory as the parameters. Gradients are never modified.

    Ranks share the signs of DTensors (FSDP2, HSDP, tensor parallel), and of the parameters of a
    `process_group`: shards of each matrix go to its owner, which computes the sign, and shards of
    the sign come back. AdamW steps each shard where it lies. The steps have the bits of one
    process. The state keeps the placement of its parameter. An error of one rank is one of all. See
    the page "Muon over ranks".

    A state of `torch.optim.Muon`, or of the author's `MuonWithAuxAdam`, can be loaded. Its running
    means and common hyperparameters are used; Newton-Schulz settings are not (give `schedule` and
    `dtype` as above). A state of this class loaded into `torch.optim.Muon` makes its `step` raise
    KeyError.

    Args:
        params: real parameters of two or more dimensions, or groups of them. If they are named,
            errors show the names.
        lr: learning rate of groups for Muon; a number, or a tensor of one, which schedulers change
            in place.
        momentum: decay of the running mean, in [0, 1).
        nesterov: use the look-ahead of the running mean.
        weight_decay: decoupled weight decay; 0.1 by default in torch's Muon.
        damping: `lambda` of `h_lambda`, in the units of `M`; 0 gives the polar factor.
        schedule: of the Newton-Schulz iteration, as in `matrix_sign`.
        dtype: of the iteration, as in `matrix_sign` (default: that of the gradient).
        precision: of float32 products, as in `matrix_sign`.
        backend: as in `matrix_sign`; `"reference"` is an exact SVD.
        relative_damping: instead of `damping`, `lambda` of each matrix relative to its largest
            singular value at that step. Matrices are then processed one by one.
        gradient_dtype: dtype that gradients are rounded to first, to measure the effect of their
            precision.
        adjust_lr_fn: the adjustment for matrices (m, n): `"original"`, `sqrt(max(1, m / n))`
            (default), or `"match_rms_adamw"`, `0.2 sqrt(max(m, n))`.
        maximize: ascend instead of descend.
        foreach: False processes one parameter at a time, which takes less memory. By default, and
            with True, matrices of one shape, dtype and device in a group are one batch.
        batch_dims: number of leading batch dimensions of a parameter.
        heads: number of equal blocks of rows, each a matrix.
        momentum_dtype: dtype of the running mean and of the matrix whose sign is computed, to which
            gradients are rounded (default: that of the gradient).
        damping_norm: the norm of a matrix that `relative_damping` is relative to: `"spectral"`, its
            largest singular value, or `"frobenius"`, with which matrices stay one batch.
        kahan_sum: sum the steps of parameters in bfloat16 or float16 with a compensation, so that
            steps below their rounding accumulate. The state holds it, in the dtype of the
            parameter; the running means of AdamW are then in float32.
        process_group: ranks that hold the same plain parameters, in the same order, and gradients
            of the same bits, as under DDP, and share the computation of their signs; None computes
            all on each rank. It is no part of the state.

    Raises:
        ShapeError, DtypeError: a parameter that does not hold real matrices, or whose placement is
            not served, such as a flat shard of FSDP1.
        RangeError, DtypeError, BackendError: a hyperparameter that cannot be used.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); Kim et al. 2026 (arXiv
    2603.26554) for the damping.
    """

    process_group: ProcessGroup | None = None  # a copy or pickle has none

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        damping: float = 0.0,
        schedule: Schedule | str | None = None,
        dtype: torch.dtype | None = None,
        precision: Precision | None = None,
        backend: BackendName | None = None,
        relative_damping: float = 0.0,
        gradient_dtype: torch.dtype | None = None,
        adjust_lr_fn: AdjustLr | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        batch_dims: int = COUNTS["batch_dims"],
        heads: int = COUNTS["heads"],
        momentum_dtype: torch.dtype | None = None,
        damping_norm: DampingNorm = "spectral",
        kahan_sum: bool = False,
        process_group: ProcessGroup | None = None,
    ) -> None:
        check_process_group(process_group)
        self.process_group = process_group
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "damping": damping,
            "schedule": schedule,
            "dtype": dtype,
            "precision": precision,
            "backend": backend,
            "relative_damping": relative_damping,
            "gradient_dtype": gradient_dtype,
            "adjust_lr_fn": adjust_lr_fn,
            "maximize": maximize,
            "foreach": foreach,
            "batch_dims": batch_dims,
            "heads": heads,
            "momentum_dtype": momentum_dtype,
            "damping_norm": damping_norm,
            "kahan_sum": kahan_sum,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own hyperparameters, as in every torch optimizer.

        Raises:
            InputError: a name that is no hyperparameter of the group, or a hyperparameter or
                parameter that cannot be used; nothing has changed.
        """
        prepare_group(param_group, self.defaults)
        super().add_param_group(param_group)
        with new_group(self) as group:
            drop_settings_of_muon(group, self.defaults)
            check_group(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load a state; hyperparameters that it lacks keep their values.

        The state may come from `torch.optim.Muon` or the author's `MuonWithAuxAdam`, whose running
        means are the same; the Newton-Schulz settings of torch's are dropped.

        Raises:
            InputError: a hyperparameter that cannot be used, or groups of other kinds; nothing has
                changed.
        """
        unpickled = not self.__dict__
        if unpickled:
            state = {**state, "defaults": {**LATER, **state["defaults"]}}
        for index, group in enumerate(state["param_groups"]):
            fallback = self.param_groups[index] if not unpickled else state["defaults"]
            complete_group(group, fallback)
            check_group(group)
        super().__setstate__(state)
        convert_step_counts(self.state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, as in every torch optimizer, from those that `__setstate__` names.

        Torch rounds the state to the dtype of the parameter; this class keeps the bits of running
        means in a dtype of their own.
        """
        loaded: dict[str, Any] = {}
        hook = self.register_load_state_dict_pre_hook(lambda _, final: loaded.update(final))
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()
        restore_dtypes(self.param_groups, self.state, loaded)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step.

        Args:
            closure: evaluates the loss and the gradients, before the step.

        Returns:
            The loss of the closure; None without one.

        Raises:
            InputError: nothing has changed. On a CPU: NonFiniteError for a gradient that contains
                NaN or infinity, also once rounded to `gradient_dtype` or `momentum_dtype`, or for a
                schedule that diverges. On any device: hyperparameters that cannot be used. Over
                ranks: the error of another rank, or settings and gradients that differ between
                ranks.
            RuntimeError: another rank raised an error that is no InputError.
        """
        if self._is_shared():
            return self._step_on_ranks(closure)
        loss = evaluate(closure)
        check_step(self.param_groups)
        self._update()
        return loss

    @untraced
    def _step_on_ranks(self, closure: Callable[[], float] | None) -> float | None:
        ranks = ranks_of(self.param_groups, self.process_group)
        with agreement(ranks) as description:
            loss = evaluate(closure)
            check_step(self.param_groups)
            check_placements(self.param_groups, self.state)
            names = dict.fromkeys(("use_muon", *self.defaults, *AUXILIARY))
            description += describe(self.param_groups, names, ranks)
        self._update(ranks)
        increment_version([param for param in self._params() if param.grad is not None])
        return loss

    def _update(self, ranks: Ranks | None = None) -> None:
        """Compute all signs, and then change all parameters."""
        compiled = torch.compiler.is_compiling()
        with nullcontext() if compiled else no_new_state_on_error(self.state):
            matrices = [self._matrices(group) for group in self.param_groups if group["use_muon"]]
            others = [self._others(group) for group in self.param_groups if not group["use_muon"]]
            updates = compute_updates(matrices, ranks)
        apply_updates(updates)
        for tensors in others:
            apply_adamw(tensors)

    def _is_shared(self) -> bool:
        """Whether the ranks of a process group, or of DTensors, make a step together."""
        return any(self.process_group is not None or is_dtensor(each) for each in self._params())

    def _params(self) -> Iterator[Tensor]:
        return (param for group in self.param_groups for param in group["params"])

    def _matrices(self, group: Group) -> GroupTensors:
        tensors = GroupTensors(group, [], [], [], [], [])
        self._init_group(*tensors)
        return tensors

    def _others(self, group: Group) -> AdamWGroup:
        tensors = AdamWGroup(group, [], [], [], [], [], [])
        self._init_group(*tensors)
        return tensors

    def _init_group(self, group: dict[str, Any], *lists: list[Any]) -> None:
        """Append the parameters that have a gradient; torch.compile runs this without tracing."""
        for param in group["params"]:
            if param.grad is None:
                continue
            tensors: tuple[Any, ...]
            if group["use_muon"]:
                tensors = matrix_tensors(param, group, self.state, self.process_group)
            else:
                tensors = adamw_tensors(param, group, self.state)
            for values, value in zip(lists, tensors, strict=True):
                values.append(value)
