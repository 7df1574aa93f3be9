"""How the Triton kernels serve a call: by which preset, and in how many splits of the items."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
import triton
from torch import Tensor

from memsolve_kernels.softmax.presets import Preset, find, input_precision, kind_of, neighbours
from memsolve_kernels.softmax.splits import count_splits
from memsolve_kernels.tuning import fastest

PARTIAL_BYTES = 128 * 2**20  # weighted sums of splits that wait to be merged, at most

Result = TypeVar("Result")


class Plan(NamedTuple):
    """What decides presets and splits.

    Attributes:
        kind: of the products, as in the table of presets.
        arch: whose presets, as 90.
        processors: of the device.
        batch: queries, at least one.
        dim: d.
        items: N.
    """

    kind: str
    arch: int
    processors: int
    batch: int
    dim: int
    items: int

    @classmethod
    def of(cls, queries: Tensor, outputs: Tensor, arch: int, precision: str) -> "Plan":
        """The plan for queries (B, d) against outputs (N, d)."""
        kind, (batch, dim) = kind_of(queries.dtype, precision), queries.shape
        return cls(kind, arch, processors(queries.device), batch, dim, len(outputs))

    def find(self, family: str) -> Preset | None:
        """The preset of a family of kernels, None if it has none for so many dimensions."""
        return find(family, self.kind, self.arch, self.dim, self.batch)

    def one_pass(
        self, family: str, preset: Preset, launcher: Callable[..., Result], inputs: tuple[Any, ...]
    ) -> Result:
        """`launcher(*inputs, preset, precision, splits)` in `preset`, or tuned."""

        def run(preset: Preset) -> Result:
            blocks = triton.cdiv(self.batch, preset.block_b)
            splits = self._splits(blocks, preset.block_n, preset.together)
            return launcher(*inputs, preset, input_precision(self.kind), splits)

        return run(fastest(self._key(family), neighbours(preset), run))

    def two_passes(
        self, family: str, launcher: Callable[..., Result], inputs: tuple[Any, ...]
    ) -> Result:
        """`launcher(*inputs, weigh, add, precision, splits)`; the family weighs."""

        def run(weigh: Preset, add: Preset) -> Result:
            blocks = triton.cdiv(self.batch, add.block_b) * triton.cdiv(self.dim, add.block_d)
            splits = self._splits(blocks, weigh.block_n, add.together)
            return launcher(*inputs, weigh, add, input_precision(self.kind), splits)

        weigh, add = self.get(family), self.get("accumulate")
        add = fastest(self._key("accumulate"), neighbours(add), functools.partial(run, weigh))
        weigh = fastest(self._key(family), neighbours(weigh), lambda tried: run(tried, add))
        return run(weigh, add)

    def get(self, family: str) -> Preset:
        """The preset of a family that walks any d in steps."""
        preset = self.find(family)
        assert preset is not None, f"no preset for {family}, {self.kind}, sm_{self.arch}"
        return preset

    def _splits(self, blocks: int, block_n: int, together: int) -> int:
        most = max(1, PARTIAL_BYTES // (4 * self.batch * self.dim))
        at_once = self.processors * together
        return count_splits(blocks, triton.cdiv(self.items, block_n), at_once, most)

    def _key(self, family: str) -> tuple[Any, ...]:
        """What calls have in common that share a tuned configuration: sizes within a factor 2."""
        sizes = self.dim, self.batch.bit_length(), self.items.bit_length()
        return "softmax", family, self.kind, self.arch, *sizes


@functools.cache
def processors(device: torch.device) -> int:
    """Of the device; the interpreter is one."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count
