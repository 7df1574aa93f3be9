"""The Triton backend: which kernels serve a pass."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from memsolve_kernels.softmax.passes import Aim, Passes, RankPartial, WeightedPartial
from memsolve_kernels.softmax.plan import Plan
from memsolve_kernels.softmax.triton_kernels import (
    by_outputs,
    covariance,
    curvature,
    odds,
    rank,
    scratch,
)
from memsolve_kernels.softmax.triton_kernels.merge import merge
from memsolve_kernels.softmax.triton_kernels.rowdot import row_dot
from memsolve_kernels.softmax.triton_kernels.tile import TINY

ROWS_IN_SCRATCH = 8192  # queries whose weights share the scratch
LOG2_E = math.log2(math.e)
HEADROOM = 8.0  # weights exceed their softmax by 2**8, which keeps small ones normal in float16


def _on_its_device(method: Callable[..., Any]) -> Callable[..., Any]:
    """Triton launches on the current device, which need not be that of the arguments."""

    @functools.wraps(method)
    def guarded(self: "TritonBackend", first: Any, *others: Any) -> Any:
        tensor = first if isinstance(first, Tensor) else first.top
        with torch.cuda.device_of(tensor):
            return method(self, first, *others)

    return guarded


@dataclass(frozen=True)
class TritonBackend(Passes):
    """For B >= 1 queries in float32, bfloat16 or float16; a part of a partial result is a split.

    A row whose target is no item comes back as NaN, its rank as -1.

    Attributes:
        presets: whose launch configurations to take, as 90.
        precision: of float32 products.
    """

    presets: int
    precision: str = "ieee"
    indexes_targets: ClassVar[bool] = False

    @_on_its_device
    def target_logits(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Row by row (B,)."""
        return row_dot(queries.contiguous(), outputs, targets.contiguous())

    @_on_its_device
    def partial_odds(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> WeightedPartial:
        """In one pass where d is small enough for the sums to stay on chip, else by a scratch."""
        plan = self._plan(queries, outputs)
        inputs = queries.contiguous(), outputs, targets.contiguous()
        if fused := plan.find("odds"):
            return plan.one_pass("odds", fused, odds.odds, inputs)
        return plan.two_passes("weights", scratch.odds, inputs)

    @_on_its_device
    def finish_odds(
        self, partial: WeightedPartial, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The log-odds (B,), its gradient, the difference (B, d), and the others (B, 2)."""
        return merge(partial, queries.contiguous(), outputs, targets.contiguous())

    @_on_its_device
    def aim(
        self,
        queries: Tensor,
        directions: Tensor,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> Aim:
        """Directions near norm 1, in the queries' dtype, so that small ones do not underflow."""
        targets = targets.contiguous()
        directions, scale = _scaled(directions, queries.dtype)
        center = row_dot(directions, outputs, targets, difference)
        log_others = log_odds + row_dot(queries.contiguous(), outputs, targets)
        shift = log_others.clamp_min_(-1e30).mul_(LOG2_E).sub_(HEADROOM)
        return Aim(directions, scale, shift, center)

    @_on_its_device
    def partial_covariance(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, aim: Aim
    ) -> WeightedPartial:
        """In one pass or by a scratch, as `partial_odds`."""
        plan = self._plan(queries, outputs)
        inputs = queries.contiguous(), outputs, targets.contiguous(), aim
        if fused := plan.find("covariance"):
            return plan.one_pass("covariance", fused, covariance.covariance, inputs)
        return plan.two_passes("centred", scratch.covariance, inputs)

    @_on_its_device
    def finish_covariance(self, partial: WeightedPartial, aim: Aim) -> Tensor:
        """The Hessian of the log-odds times a direction (B, d)."""
        sums, total = partial.sums, partial.total.sum(0)  # relative to one shift
        product = sums[0] if len(sums) == 1 else sums.sum(0)
        return product.div_(total.clamp_min_(TINY.value)[:, None]).mul_(aim.scale)

    @_on_its_device
    def outputs_gradient(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        others: Tensor,
        by_log_odds: Tensor,
    ) -> Tensor:
        """In one pass or by a scratch, as `partial_odds`, with items in place of queries.

        The others' sum divides the factors; they are relative to the largest, near which those in
        float16 keep their accuracy.
        """
        targets, order = targets.sort(stable=True)
        queries, by_log_odds = queries[order], by_log_odds[order]
        shift, total = others[order].unbind(1)
        none = total == 0  # no other, so that none has a weight
        shift, total = shift.masked_fill(none, 1e30), total.masked_fill(none, 1)
        unit = _power_of_two(by_log_odds.abs().amax()[None]) / 2**HEADROOM
        weights = (by_log_odds / unit).float()
        pull = by_outputs.Pull(shift.contiguous(), weights / total, -weights, unit)
        plan = self._plan(outputs, queries)
        if fused := plan.find("outputs"):
            inputs = outputs, queries, targets, pull
            return plan.one_pass("outputs", fused, by_outputs.gradient, inputs)
        gradient = outputs.new_empty(outputs.shape, dtype=torch.float32)
        for items in _blocks(len(outputs)):
            inputs = outputs[items].contiguous(), queries, targets - items.start, pull
            plan = self._plan(outputs[items], queries)
            gradient[items] = plan.two_passes("pulls", by_outputs.gradient_by_scratch, inputs)
        return gradient

    @_on_its_device
    def partial_ranks(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, target_logit: Tensor
    ) -> RankPartial:
        """In one pass, with the queries on chip where d is small enough."""
        plan = self._plan(queries, outputs)
        inputs = queries.contiguous(), outputs, targets.contiguous(), target_logit
        family, preset = "rank", plan.find("rank")
        if preset is None:
            family, preset = "long_rank", plan.get("long_rank")
        return plan.one_pass(family, preset, rank.ranks, inputs)

    def odds(
        self, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Passes.odds`, where the scratch is for fewer queries a block of them at a time."""
        if len(queries) <= ROWS_IN_SCRATCH or self._plan(queries, outputs).find("odds"):
            return super().odds(queries, outputs, targets)
        log_odds = queries.new_empty(len(queries), dtype=torch.float32)
        difference = queries.new_empty(queries.shape, dtype=torch.float32)
        others = log_odds.new_empty(len(queries), 2)
        for r in _blocks(len(queries)):
            log_odds[r], difference[r], others[r] = super().odds(queries[r], outputs, targets[r])
        return log_odds, difference, others

    def covariance(
        self,
        queries: Tensor,
        directions: Tensor,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> Tensor:
        """As `Passes.covariance`, where the scratch is for fewer queries a block at a time."""
        if len(queries) <= ROWS_IN_SCRATCH or self._plan(queries, outputs).find("covariance"):
            return super().covariance(queries, directions, outputs, targets, log_odds, difference)
        product = torch.empty_like(difference)
        for r in _blocks(len(queries)):
            product[r] = super().covariance(
                queries[r], directions[r], outputs, targets[r], log_odds[r], difference[r]
            )
        return product

    @_on_its_device
    def curvature(
        self, queries: Tensor, directions: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Passes.curvature`, by one kernel where d is small enough."""
        plan = self._plan(queries, outputs)
        fused = plan.find("curvature")
        if fused is None:
            return super().curvature(queries, directions, outputs, targets)
        directions, scale = _scaled(directions, queries.dtype)
        inputs = queries.contiguous(), directions, outputs, targets.contiguous()
        results = plan.one_pass("curvature", fused, curvature.curvature, inputs)
        log_odds, difference, product = results
        return log_odds, difference, product.mul_(scale)

    def _plan(self, queries: Tensor, outputs: Tensor) -> Plan:
        return Plan.of(queries, outputs, self.presets, self.precision)


def _blocks(batch: int) -> Iterator[slice]:
    return (slice(start, start + ROWS_IN_SCRATCH) for start in range(0, batch, ROWS_IN_SCRATCH))


def _scaled(directions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Directions in `dtype`, and the powers of two (B, 1) that bring each row back.

    Rows are brought near norm 1 first, so that in float16 those of a small weight do not underflow,
    and products with outputs do not overflow however large d is.
    """
    norms = torch.linalg.vector_norm(directions, dim=1, keepdim=True, dtype=torch.float32)
    scale = _power_of_two(norms)
    return (directions / scale).to(dtype).contiguous(), scale


def _power_of_two(size: Tensor) -> Tensor:
    """The one above each size, in float32, within bounds."""
    exponent = size.frexp().exponent.clamp_(-100, 100)
    return torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)
