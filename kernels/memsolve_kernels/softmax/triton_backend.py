"""The Triton backend: the kernels of each pass."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from memsolve_kernels.dispatch import Precision
from memsolve_kernels.errors import BackendError
from memsolve_kernels.softmax.interface import SoftmaxBackend
from memsolve_kernels.softmax.partials import (
    HvpContext,
    LogitWeights,
    RankPartial,
    WeightedPartial,
)
from memsolve_kernels.softmax.plan import Plan
from memsolve_kernels.softmax.triton_kernels.covariance import launch_covariance
from memsolve_kernels.softmax.triton_kernels.curvature import launch_curvature
from memsolve_kernels.softmax.triton_kernels.merge import launch_merge
from memsolve_kernels.softmax.triton_kernels.odds import launch_odds
from memsolve_kernels.softmax.triton_kernels.outputs_gradient import (
    QueryWeights,
    launch_outputs_gradient,
    outputs_gradient_by_scratch,
)
from memsolve_kernels.softmax.triton_kernels.rank import launch_ranks
from memsolve_kernels.softmax.triton_kernels.row_dot import launch_row_dot
from memsolve_kernels.softmax.triton_kernels.scratch import (
    covariance_by_scratch,
    odds_by_scratch,
)
from memsolve_kernels.softmax.triton_kernels.tile import TINY

ROWS_IN_SCRATCH = 8192  # queries whose weights share the scratch
LOG2_E = math.log2(math.e)
HEADROOM = 8.0  # weights are 2**8 times their softmax: small ones are normal in float16


def _on_device_of_inputs(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make the inputs' device the current one, on which Triton launches."""

    @functools.wraps(method)
    def guarded(self: "TritonBackend", first: Any, *others: Any) -> Any:
        tensor = first if isinstance(first, Tensor) else first.top
        with torch.cuda.device_of(tensor):
            return method(self, first, *others)

    return guarded


@dataclass(frozen=True)
class TritonBackend(SoftmaxBackend):
    """For B >= 1 queries in float32, bfloat16 or float16; a part of a partial result is a split.

    A row with an invalid target becomes NaN, its rank -1.

    Attributes:
        preset_arch: the architecture, such as 90, whose launch configurations are used.
        precision: of float32 products.
    """

    preset_arch: int
    precision: str = "ieee"
    name: ClassVar[str] = "triton"
    indexes_targets: ClassVar[bool] = False

    def check(self, dtype: torch.dtype, device: torch.device, precision: Precision | None) -> None:
        """Reject a precision for inputs in half precision, whose products are exact."""
        if precision is not None and dtype != torch.float32:
            raise BackendError(
                f"precision={precision!r} is for float32 inputs; products of {dtype} are exact: "
                "use precision=None"
            )

    @_on_device_of_inputs
    def target_logits(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Row by row (B,)."""
        return launch_row_dot(queries.contiguous(), outputs, targets.contiguous())

    @_on_device_of_inputs
    def partial_odds(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> WeightedPartial:
        """In one pass if d is small enough for the sums to stay on chip, else by a scratch."""
        plan = self._plan(queries, outputs)
        inputs = queries.contiguous(), outputs, targets.contiguous()
        if tile := plan.find_tile("odds"):
            return plan.one_pass("odds", tile, launch_odds, inputs)
        return plan.two_passes("weights", odds_by_scratch, inputs)

    @_on_device_of_inputs
    def finish_odds(
        self, partial: WeightedPartial, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The log-odds (B,), its gradient, the difference (B, d), and the others (B, 2)."""
        return launch_merge(partial, queries.contiguous(), outputs, targets.contiguous())

    @_on_device_of_inputs
    def hvp_context(
        self,
        queries: Tensor,
        directions: Tensor | None,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> HvpContext:
        """Directions near norm 1 in the queries' dtype, so that small ones do not underflow."""
        targets = targets.contiguous()
        directions = queries if directions is None else directions
        directions, scale = _normalise(directions, queries.dtype)
        center = launch_row_dot(directions, outputs, targets, difference)
        log_others = log_odds + launch_row_dot(queries.contiguous(), outputs, targets)
        shift = log_others.clamp_min_(-1e30).mul_(LOG2_E).sub_(HEADROOM)
        return HvpContext(directions, scale, shift, center)

    @_on_device_of_inputs
    def partial_covariance(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, context: HvpContext
    ) -> WeightedPartial:
        """In one pass or by a scratch, like `partial_odds`."""
        plan = self._plan(queries, outputs)
        inputs = queries.contiguous(), outputs, targets.contiguous(), context
        if tile := plan.find_tile("covariance"):
            return plan.one_pass("covariance", tile, launch_covariance, inputs)
        return plan.two_passes("centred", covariance_by_scratch, inputs)

    @_on_device_of_inputs
    def finish_covariance(self, partial: WeightedPartial, context: HvpContext) -> Tensor:
        """The Hessian of the log-odds times a direction (B, d)."""
        sums, total = partial.sums, partial.total.sum(0)  # relative to the same shift
        product = sums[0] if len(sums) == 1 else sums.sum(0)
        return product.div_(total.clamp_min_(TINY.value)[:, None]).mul_(context.scale)

    @_on_device_of_inputs
    def outputs_gradient(
        self,
        queries: Tensor,
        outputs: Tensor,
        targets: Tensor,
        others: Tensor,
        weights: LogitWeights,
        bias_column: int | None = None,
    ) -> Tensor:
        """In one pass or by a scratch, like `partial_odds`, with queries and items exchanged.

        Factors are divided by the others' sum, and are relative to the largest weight, so that
        those in float16 keep their accuracy.
        """
        targets, order = targets.sort(stable=True)
        queries = queries[order]
        by_query = _query_weights(others[order], weights.of_rows(order))
        plan = self._plan(outputs, queries)
        if tile := plan.find_tile("outputs"):
            inputs = outputs, queries, targets, by_query, bias_column
            return plan.one_pass("outputs", tile, launch_outputs_gradient, inputs)
        name = "output_weights" if by_query.slope is None else "entropy_weights"
        gradient = outputs.new_empty(outputs.shape, dtype=torch.float32)
        for items in _blocks(len(outputs)):
            part, places = outputs[items].contiguous(), targets - items.start
            inputs = part, queries, places, by_query, bias_column
            plan = self._plan(outputs[items], queries)
            gradient[items] = plan.two_passes(name, outputs_gradient_by_scratch, inputs)
        return gradient

    @_on_device_of_inputs
    def partial_ranks(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, target_logit: Tensor
    ) -> RankPartial:
        """In one pass, with the queries on chip if d is small enough."""
        plan = self._plan(queries, outputs)
        inputs = queries.contiguous(), outputs, targets.contiguous(), target_logit
        name, tile = "rank", plan.find_tile("rank")
        if tile is None:
            name, tile = "long_rank", plan.tile_for_any_dim("long_rank")
        return plan.one_pass(name, tile, launch_ranks, inputs)

    def query_blocks(self, name: str, queries: Tensor, outputs: Tensor) -> list[slice]:
        """Blocks that share the scratch, where there is no tile for one pass; else all at once."""
        if len(queries) <= ROWS_IN_SCRATCH or self._plan(queries, outputs).find_tile(name):
            return super().query_blocks(name, queries, outputs)
        return _blocks(len(queries))

    @_on_device_of_inputs
    def curvature(
        self, queries: Tensor, directions: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """By one kernel if d is small enough, else by two passes."""
        plan = self._plan(queries, outputs)
        tile = plan.find_tile("curvature")
        if tile is None:
            return super().curvature(queries, directions, outputs, targets)
        directions, scale = _normalise(directions, queries.dtype)
        inputs = queries.contiguous(), directions, outputs, targets.contiguous()
        results = plan.one_pass("curvature", tile, launch_curvature, inputs)
        log_odds, difference, product = results
        return log_odds, difference, product.mul_(scale)

    def _plan(self, queries: Tensor, outputs: Tensor) -> Plan:
        return Plan.of(queries, outputs, self.preset_arch, self.precision)


def _query_weights(others: Tensor, weights: LogitWeights) -> QueryWeights:
    """The weights relative to the largest, from the others (B, 2) of `finish_odds`."""
    shift, total = others.unbind(1)
    none = total == 0  # without others no item has a weight
    shift, total = shift.masked_fill(none, 1e30), total.masked_fill(none, 1)
    sizes = weights.at_target.abs()
    if weights.target is not None:
        logs = (shift + total.log2()).masked_fill(none, 0) / LOG2_E
        sizes = torch.maximum(sizes, _size_of_others(weights, logs))
    unit = _power_of_two(sizes.amax()[None]) / 2**HEADROOM
    factor, own = ((each / unit).float() for each in (weights.others, weights.at_target))
    slope = None if weights.logit is None else (weights.logit / unit).float() / total
    return QueryWeights(shift.contiguous(), factor / total, own, unit, slope)


def _size_of_others(weights: LogitWeights, logs: Tensor) -> Tensor:
    """A bound (B,) of the others' weights, given the logarithms (B,) of their sums.

    Of an item with the share `p`, and so the logit `logs + log p`, it is
    `p (others + logit * logs) + logit * p log p`, and the second factor is in [-1/e, 0].
    """
    if weights.logit is None:
        return weights.others.abs()
    return (weights.others + weights.logit * logs).abs() + weights.logit.abs() / math.e


def _blocks(rows: int) -> list[slice]:
    starts = range(0, rows, ROWS_IN_SCRATCH)
    return [slice(start, min(start + ROWS_IN_SCRATCH, rows)) for start in starts]


def _normalise(directions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Directions in `dtype` with norms near 1, and the powers of two (B, 1) that restore them.

    In float16 small directions would otherwise underflow, and products with outputs could overflow
    for large d.
    """
    norms = torch.linalg.vector_norm(directions, dim=1, keepdim=True, dtype=torch.float32)
    scale = _power_of_two(norms)
    return (directions / scale).to(dtype).contiguous(), scale


def _power_of_two(size: Tensor) -> Tensor:
    """The power of two above each size, in float32, within bounds."""
    exponent = size.frexp().exponent.clamp_(-100, 100)
    return torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)
