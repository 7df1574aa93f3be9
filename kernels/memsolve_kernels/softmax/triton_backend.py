"""The Triton backend: which kernels serve a pass, and in how many splits of the items."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
import triton
from torch import Tensor

from memsolve_kernels.architectures import architecture
from memsolve_kernels.softmax.passes import Aim, Passes, RankPartial, WeightedPartial
from memsolve_kernels.softmax.presets import Preset, find, input_precision, kind_of, neighbours
from memsolve_kernels.softmax.splits import count_splits
from memsolve_kernels.softmax.triton_kernels import covariance, curvature, odds, rank, scratch
from memsolve_kernels.softmax.triton_kernels.merge import merge
from memsolve_kernels.softmax.triton_kernels.rowdot import row_dot
from memsolve_kernels.softmax.triton_kernels.tile import TINY
from memsolve_kernels.tuning import fastest

ROWS_IN_SCRATCH = 8192  # queries whose weights share the scratch
PARTIAL_BYTES = 128 * 2**20  # weighted sums of splits that wait to be merged, at most
LOG2_E = math.log2(math.e)
HEADROOM = 8.0  # weights exceed their softmax by 2**8, which keeps small ones normal in float16

Result = TypeVar("Result")


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
        precision: of float32 products.
    """

    precision: str = "ieee"
    indexes_targets: ClassVar[bool] = False

    @_on_its_device
    def target_logits(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Row by row (B,)."""
        return row_dot(queries.contiguous(), outputs, targets.contiguous())

    @_on_its_device
    def partial_odds(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> WeightedPartial:
        """In one pass where d is small enough for the sums to stay on chip, else by a scratch."""
        call = self._call(queries, outputs)
        inputs = queries.contiguous(), outputs, targets.contiguous()
        if fused := call.find("odds"):
            return call.one_pass("odds", fused, odds.odds, inputs)
        return call.two_passes("weights", scratch.odds, inputs)

    @_on_its_device
    def finish_odds(
        self, partial: WeightedPartial, queries: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The log-odds (B,) of the others against the target and its gradient (B, d)."""
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
        call = self._call(queries, outputs)
        inputs = queries.contiguous(), outputs, targets.contiguous(), aim
        if fused := call.find("covariance"):
            return call.one_pass("covariance", fused, covariance.covariance, inputs)
        return call.two_passes("centred", scratch.covariance, inputs)

    @_on_its_device
    def finish_covariance(self, partial: WeightedPartial, aim: Aim) -> Tensor:
        """The Hessian of the log-odds times a direction (B, d)."""
        sums, total = partial.sums, partial.total.sum(0)  # relative to one shift
        product = sums[0] if len(sums) == 1 else sums.sum(0)
        return product.div_(total.clamp_min_(TINY.value)[:, None]).mul_(aim.scale)

    @_on_its_device
    def partial_ranks(
        self, queries: Tensor, outputs: Tensor, targets: Tensor, target_logit: Tensor
    ) -> RankPartial:
        """In one pass, for any d."""
        call = self._call(queries, outputs)
        inputs = queries.contiguous(), outputs, targets.contiguous(), target_logit
        return call.one_pass("rank", call.get("rank"), rank.ranks, inputs)

    def odds(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """As `Passes.odds`, where the scratch is for fewer queries a block of them at a time."""
        if len(queries) <= ROWS_IN_SCRATCH or self._call(queries, outputs).find("odds"):
            return super().odds(queries, outputs, targets)
        log_odds = queries.new_empty(len(queries), dtype=torch.float32)
        difference = torch.empty_like(queries, dtype=torch.float32)
        for r in _blocks(len(queries)):
            log_odds[r], difference[r] = super().odds(queries[r], outputs, targets[r])
        return log_odds, difference

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
        if len(queries) <= ROWS_IN_SCRATCH or self._call(queries, outputs).find("covariance"):
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
        call = self._call(queries, outputs)
        fused = call.find("curvature")
        if fused is None:
            return super().curvature(queries, directions, outputs, targets)
        directions, scale = _scaled(directions, queries.dtype)
        inputs = queries.contiguous(), directions, outputs, targets.contiguous()
        results = call.one_pass("curvature", fused, curvature.curvature, inputs)
        log_odds, difference, product = results
        return log_odds, difference, product.mul_(scale)

    def _call(self, queries: Tensor, outputs: Tensor) -> "_Call":
        arch = architecture(queries.device)
        assert arch is not None, "called for a device without presets"
        kind = kind_of(queries.dtype, self.precision)
        return _Call(kind, arch.presets, _processors(queries.device), *queries.shape, len(outputs))


class _Call(NamedTuple):
    """What decides presets and splits: kind of product, architecture, and sizes."""

    kind: str
    arch: int
    processors: int
    batch: int
    dim: int
    items: int

    def find(self, family: str) -> Preset | None:
        return find(family, self.kind, self.arch, self.dim, self.batch)

    def get(self, family: str) -> Preset:
        preset = self.find(family)
        assert preset is not None, f"no preset for {family}, {self.kind}, sm_{self.arch}"
        return preset

    def one_pass(
        self, family: str, preset: Preset, launcher: Callable[..., Result], inputs: tuple[Any, ...]
    ) -> Result:
        def run(preset: Preset) -> Result:
            splits = self.splits(triton.cdiv(self.batch, preset.block_b), preset.block_n)
            return launcher(*inputs, preset, input_precision(self.kind), splits)

        return run(fastest(self.key(family), neighbours(preset), run))

    def two_passes(
        self, family: str, launcher: Callable[..., Result], inputs: tuple[Any, ...]
    ) -> Result:
        def run(weigh: Preset, add: Preset) -> Result:
            blocks = triton.cdiv(self.batch, add.block_b) * triton.cdiv(self.dim, add.block_d)
            splits = self.splits(blocks, weigh.block_n)
            return launcher(*inputs, weigh, add, input_precision(self.kind), splits)

        weigh, add = self.get(family), self.get("accumulate")
        add = fastest(self.key("accumulate"), neighbours(add), functools.partial(run, weigh))
        weigh = fastest(self.key(family), neighbours(weigh), lambda tried: run(tried, add))
        return run(weigh, add)

    def splits(self, blocks: int, block_n: int) -> int:
        most = max(1, PARTIAL_BYTES // (4 * self.batch * self.dim))
        return count_splits(blocks, triton.cdiv(self.items, block_n), self.processors, most)

    def key(self, family: str) -> tuple[Any, ...]:
        """What calls have in common that share a tuned configuration: sizes within a factor 2."""
        sizes = self.dim, self.batch.bit_length(), self.items.bit_length()
        return "softmax", family, self.kind, self.arch, *sizes


def _blocks(batch: int) -> Iterator[slice]:
    return (slice(start, start + ROWS_IN_SCRATCH) for start in range(0, batch, ROWS_IN_SCRATCH))


def _scaled(directions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Directions in `dtype`, and the powers of two (B, 1) that bring each row back.

    Rows are brought near norm 1 first, so that in float16 those of a small weight do not underflow,
    and products with outputs do not overflow however large d is.
    """
    norms = torch.linalg.vector_norm(directions, dim=1, keepdim=True, dtype=torch.float32)
    exponent = norms.frexp().exponent.clamp_(-100, 100)
    scale = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)
    return (directions / scale).to(dtype).contiguous(), scale


@functools.cache
def _processors(device: torch.device) -> int:
    """Programs that run at once; the interpreter runs them one by one."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count
