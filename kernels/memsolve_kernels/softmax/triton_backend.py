"""The Triton backend: which kernels serve a call, and in how many splits of the items."""

import functools
import math
from collections.abc import Iterator

import torch
import triton
from torch import Tensor

from memsolve_kernels.errors import BackendError
from memsolve_kernels.softmax import triton_covariance, triton_odds, triton_rank, triton_scratch
from memsolve_kernels.softmax.presets import Preset, find
from memsolve_kernels.softmax.splits import count_splits
from memsolve_kernels.softmax.triton_rowdot import row_dot

ROWS_IN_SCRATCH = 8192  # queries whose weights share the scratch
PARTIAL_BYTES = 128 * 2**20  # weighted sums of splits that wait to be merged, at most
LOG2_E = math.log2(math.e)
HEADROOM = 8.0  # weights exceed their softmax by 2**8, which keeps small ones normal in float16


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
        self._arch, self._processors = _device(queries.device)

    def odds(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The log-odds (B,) of the others against the target and its gradient (B, d)."""
        queries, targets = queries.contiguous(), targets.contiguous()
        if fused := self._find("odds"):
            return triton_odds.odds(queries, outputs, targets, *self._one_pass(fused, len(queries)))
        if len(queries) <= ROWS_IN_SCRATCH:
            return triton_scratch.odds(
                queries, outputs, targets, *self._two_passes("weights", len(queries))
            )
        log_odds = queries.new_empty(len(queries), dtype=torch.float32)
        difference = torch.empty_like(queries, dtype=torch.float32)
        for rows in _blocks(len(queries)):
            log_odds[rows], difference[rows] = self.odds(queries[rows], outputs, targets[rows])
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
        """The Hessian of the log-odds times a direction, (B, d): the covariance of the others."""
        queries, targets = queries.contiguous(), targets.contiguous()
        directions, scale = _scaled(directions, queries.dtype)
        centers = row_dot(directions, outputs, targets, difference)
        log_others = log_odds + row_dot(queries, outputs, targets)
        shifts = log_others.clamp_min_(-1e30).mul_(LOG2_E).sub_(HEADROOM)
        if fused := self._find("covariance"):
            product = triton_covariance.covariance(
                queries, directions, outputs, targets, shifts, centers,
                *self._one_pass(fused, len(queries)),
            )  # fmt: skip
            return product.mul_(scale)
        product = torch.empty_like(difference)
        for rows in _blocks(len(queries)):
            product[rows] = triton_scratch.covariance(
                queries[rows], directions[rows], outputs, targets[rows], shifts[rows],
                centers[rows], *self._two_passes("centred", len(queries[rows])),
            )  # fmt: skip
        return product.mul_(scale)

    def ranks(self, queries: Tensor, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """`(log_odds, target_logit, margin, rank)`, each (B,), rank in int64."""
        return triton_rank.ranks(
            queries.contiguous(), outputs, targets.contiguous(),
            *self._one_pass(self._get("rank"), len(queries)),
        )  # fmt: skip

    def _find(self, family: str) -> Preset | None:
        return find(family, self._kind, self._arch, self._dim)

    def _get(self, family: str) -> Preset:
        preset = self._find(family)
        assert preset is not None, f"no preset for {family}, {self._kind}, sm_{self._arch}"
        return preset

    def _one_pass(self, preset: Preset, batch: int) -> tuple[Preset, str, int]:
        """Preset for so many queries, precision, splits."""
        blocks = triton.cdiv(batch, preset.block_b)
        tiles = triton.cdiv(self._items, preset.block_n)
        most = max(1, PARTIAL_BYTES // (4 * batch * self._dim))
        return preset, self._precision, count_splits(blocks, tiles, self._processors, most)

    def _two_passes(self, family: str, batch: int) -> tuple[Preset, Preset, str, int]:
        """Presets of both kernels, precision, splits of the second."""
        weigh, add = self._get(family), self._get("accumulate")
        blocks = triton.cdiv(batch, add.block_b) * triton.cdiv(self._dim, add.block_d)
        tiles = triton.cdiv(self._items, weigh.block_n)
        most = max(1, PARTIAL_BYTES // (4 * batch * self._dim))
        splits = count_splits(blocks, tiles, self._processors, most)
        return weigh, add, self._precision, splits


def _blocks(batch: int) -> Iterator[slice]:
    return (slice(start, start + ROWS_IN_SCRATCH) for start in range(0, batch, ROWS_IN_SCRATCH))


def _scaled(directions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Directions in `dtype`, and the powers of two (B, 1) that bring each row back.

    Rows are brought near 1 first, so that those of a small weight do not underflow in float16.
    """
    exponent = directions.abs().amax(1, keepdim=True).float().frexp().exponent.clamp_(-100, 100)
    scale = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)
    return (directions / scale).to(dtype).contiguous(), scale


@functools.cache
def _device(device: torch.device) -> tuple[int, int]:
    """The architecture whose presets serve, and the number of processors; one if interpreted."""
    if device.type != "cuda":
        return 80, 1
    major, _ = torch.cuda.get_device_capability(device)
    arch = {9: 90, 10: 100}.get(major, 80)
    return arch, torch.cuda.get_device_properties(device).multi_processor_count
