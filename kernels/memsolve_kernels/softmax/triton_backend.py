"""The Triton backend: which kernels serve a call, and in how many splits of the items."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import triton
from torch import Tensor

from memsolve_kernels.dispatch import architecture
from memsolve_kernels.errors import BackendError
from memsolve_kernels.softmax import (
    triton_covariance,
    triton_curvature,
    triton_odds,
    triton_rank,
    triton_scratch,
)
from memsolve_kernels.softmax.autotune import tuned
from memsolve_kernels.softmax.presets import Preset, find
from memsolve_kernels.softmax.splits import count_splits
from memsolve_kernels.softmax.triton_rowdot import row_dot

ROWS_IN_SCRATCH = 8192  # queries whose weights share the scratch
PARTIAL_BYTES = 128 * 2**20  # weighted sums of splits that wait to be merged, at most
LOG2_E = math.log2(math.e)
HEADROOM = 8.0  # weights exceed their softmax by 2**8, which keeps small ones normal in float16


Result = TypeVar("Result")


def _on_its_device(method: Callable[..., Any]) -> Callable[..., Any]:
    """Triton launches on the current device, which need not be that of the queries."""

    @functools.wraps(method)
    def guarded(self: "TritonBackend", queries: Tensor, *others: Tensor) -> Any:
        with torch.cuda.device_of(queries):
            return method(self, queries, *others)

    return guarded


class TritonBackend:
    """The three passes for queries of one shape, dtype and device against given outputs.

    Args:
        queries: (B, d), B >= 1, float32, bfloat16 or float16.
        outputs: (N, d).
        precision: of float32 products; None is "ieee".
    """

    def __init__(self, queries: Tensor, outputs: Tensor, precision: str | None) -> None:
        half = queries.dtype != torch.float32
        if half and precision is not None:
            raise BackendError(
                f"precision={precision!r} is for float32 inputs; products of {queries.dtype} "
                "are exact: use precision=None"
            )
        self._dim, self._items = queries.shape[1], len(outputs)
        self._precision = precision or "ieee"
        self._kind = "half" if half else self._precision
        arch = architecture(queries.device)
        assert arch is not None, "called for a device without presets"
        self._arch, self._processors = arch, _processors(queries.device)

    @_on_its_device
    def odds(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The log-odds (B,) of the others against the target and its gradient (B, d)."""
        queries, targets = queries.contiguous(), targets.contiguous()
        if fused := self._find("odds", len(queries)):
            inputs = (queries, outputs, targets)
            return self._one_pass("odds", fused, triton_odds.odds, inputs)
        log_odds = queries.new_empty(len(queries), dtype=torch.float32)
        difference = torch.empty_like(queries, dtype=torch.float32)
        for rows in _blocks(len(queries)):
            inputs = (queries[rows], outputs, targets[rows])
            part = self._two_passes("weights", triton_scratch.odds, inputs)
            log_odds[rows], difference[rows] = part
        return log_odds, difference

    @_on_its_device
    def covariance(
        self,
        queries: Tensor,
        directions: Tensor,
        outputs: Tensor,
        targets: Tensor,
        log_odds: Tensor,
        difference: Tensor,
    ) -> Tensor:
        """The Hessian of the log-odds times a direction, (B, d): the covariance of the others."""
        queries, targets = queries.contiguous(), targets.contiguous()
        directions, scale = _scaled(directions, queries.dtype)
        centers = row_dot(directions, outputs, targets, difference)
        log_others = log_odds + row_dot(queries, outputs, targets)
        shifts = log_others.clamp_min_(-1e30).mul_(LOG2_E).sub_(HEADROOM)
        if fused := self._find("covariance", len(queries)):
            inputs = (queries, directions, outputs, targets, shifts, centers)
            product = self._one_pass("covariance", fused, triton_covariance.covariance, inputs)
        else:
            product = torch.empty_like(difference)
            for r in _blocks(len(queries)):
                inputs = (queries[r], directions[r], outputs, targets[r], shifts[r], centers[r])
                product[r] = self._two_passes("centred", triton_scratch.covariance, inputs)
        return product.mul_(scale)

    @_on_its_device
    def curvature(
        self, queries: Tensor, directions: Tensor, outputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`odds` and the `covariance` along the directions together: (B,), (B, d), (B, d)."""
        fused = self._find("curvature", len(queries))
        if fused is None:
            odds = self.odds(queries, outputs, targets)
            return *odds, self.covariance(queries, directions, outputs, targets, *odds)
        directions, scale = _scaled(directions, queries.dtype)
        inputs = (queries.contiguous(), directions, outputs, targets.contiguous())
        launch = triton_curvature.curvature
        log_odds, difference, product = self._one_pass("curvature", fused, launch, inputs)
        return log_odds, difference, product.mul_(scale)

    @_on_its_device
    def ranks(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """`(log_odds, target_logit, margin, rank)`, each (B,), rank in int64."""
        inputs = (queries.contiguous(), outputs, targets.contiguous())
        preset = self._get("rank", len(queries))
        return self._one_pass("rank", preset, triton_rank.ranks, inputs)

    def _find(self, family: str, batch: int) -> Preset | None:
        return find(family, self._kind, self._arch, self._dim, batch)

    def _get(self, family: str, batch: int) -> Preset:
        preset = self._find(family, batch)
        assert preset is not None, f"no preset for {family}, {self._kind}, sm_{self._arch}"
        return preset

    def _one_pass(
        self, family: str, preset: Preset, launch: Callable[..., Result], inputs: tuple[Tensor, ...]
    ) -> Result:
        batch = len(inputs[0])

        def run(preset: Preset) -> Result:
            splits = self._splits(batch, triton.cdiv(batch, preset.block_b), preset.block_n)
            return launch(*inputs, preset, self._precision, splits)

        return run(tuned(self._key(family, batch), preset, run))

    def _two_passes(
        self, family: str, launch: Callable[..., Result], inputs: tuple[Tensor, ...]
    ) -> Result:
        batch = len(inputs[0])

        def run(weigh: Preset, add: Preset) -> Result:
            blocks = triton.cdiv(batch, add.block_b) * triton.cdiv(self._dim, add.block_d)
            splits = self._splits(batch, blocks, weigh.block_n)
            return launch(*inputs, weigh, add, self._precision, splits)

        weigh, add = self._get(family, batch), self._get("accumulate", batch)
        add = tuned(self._key("accumulate", batch), add, functools.partial(run, weigh))
        weigh = tuned(self._key(family, batch), weigh, lambda candidate: run(candidate, add))
        return run(weigh, add)

    def _splits(self, batch: int, blocks: int, block_n: int) -> int:
        most = max(1, PARTIAL_BYTES // (4 * batch * self._dim))
        return count_splits(blocks, triton.cdiv(self._items, block_n), self._processors, most)

    def _key(self, family: str, batch: int) -> tuple[Any, ...]:
        """What calls have in common that share a tuned configuration: sizes within a factor 2."""
        sizes = self._dim, batch.bit_length(), self._items.bit_length()
        return family, self._kind, self._arch, *sizes


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
