"""Every kernel of the family in every preset, as its launcher launches it on meta tensors."""

from collections.abc import Iterator

import torch

from memsolve_kernels.launch import Launch, Variant, recorded
from memsolve_kernels.softmax.passes import Aim, WeightedPartial
from memsolve_kernels.softmax.presets import FEW, TABLE, TILED, Preset, input_precision, presets
from memsolve_kernels.softmax.triton_kernels import (
    by_outputs,
    covariance,
    curvature,
    merge,
    odds,
    rank,
    rowdot,
    scratch,
)

KERNELS = {
    "odds": odds.odds_kernel,
    "curvature": curvature.curvature_kernel,
    "covariance": covariance.covariance_kernel,
    "outputs": by_outputs.outputs_kernel,
    "pulls": by_outputs.pulls_kernel,
    "rank": rank.rank_kernel,
    "long_rank": rank.rank_kernel,
    "weights": scratch.weights_kernel,
    "centred": scratch.centred_weights_kernel,
    "accumulate": scratch.accumulate_kernel,
    "merge": merge.merge_kernel,
    "merge_curvature": curvature.merge_curvature_kernel,
    "row_dot": rowdot.row_dot_kernel,
}
BATCH, ITEMS = 1024, 4096  # one compilation serves all
LARGE_DIM = 1024  # where d is walked in steps


def variants(arch: int) -> Iterator[Variant]:
    """Each row of the table as it is launched, and the small kernels around them."""
    for family, kind in TABLE:
        every = presets(family, kind, arch)
        for preset in every:
            dim = LARGE_DIM if family in TILED else preset.block_d
            name = f"softmax.{family} {kind}" + ("" if family in TILED else f" d<={dim}")
            same = [other for other in every if other.block_d == preset.block_d]
            if preset.block_b == FEW or preset.block_b < max(other.block_b for other in same):
                name += f" B<={preset.block_b}"
            launch = _launch(family, kind, arch, dim, preset)
            yield Variant(name, launch, tensor_cores=kind != "ieee")
    for family in ("merge", "merge_curvature", "row_dot"):
        launch = _launch(family, "half", arch, LARGE_DIM, presets("long_rank", "half", arch)[-1])
        yield Variant(f"softmax.{family}", launch, tensor_cores=False)


def _launch(family: str, kind: str, arch: int, dim: int, preset: Preset) -> Launch:
    """The launch of the family's kernel in a call whose kernel of that kind has the preset."""
    dtype = torch.bfloat16 if kind == "half" else torch.float32
    queries, outputs = (
        torch.empty(rows, dim, dtype=dtype, device="meta") for rows in (BATCH, ITEMS)
    )
    targets = torch.empty(BATCH, dtype=torch.int64, device="meta")
    numbers, sums = torch.empty(1, BATCH, device="meta"), torch.empty(1, BATCH, dim, device="meta")
    inputs = queries, outputs, targets
    aim = Aim(queries, numbers.T, numbers[0], numbers[0])
    pull = by_outputs.Pull(numbers[0], numbers[0], numbers[0], unit=numbers[0, :1])
    turned = outputs, queries, targets, pull
    weigh, add = (presets(each, kind, arch)[-1] for each in ("weights", "accumulate"))
    how, splits = input_precision(kind), 1
    with recorded() as launches:
        match family:
            case "odds":
                odds.odds(*inputs, preset, how, splits)
            case "curvature" | "merge_curvature":
                curvature.curvature(queries, *inputs, preset, how, splits)
            case "covariance":
                covariance.covariance(*inputs, aim, preset, how, splits)
            case "outputs":
                by_outputs.gradient(*turned, preset, how, splits)
            case "pulls":
                by_outputs.gradient_by_scratch(*turned, preset, add, how, splits)
            case "rank" | "long_rank":
                rank.ranks(*inputs, numbers[0], preset, how, splits)
            case "weights":
                scratch.odds(*inputs, preset, add, how, splits)
            case "centred":
                scratch.covariance(*inputs, aim, preset, add, how, splits)
            case "accumulate":
                scratch.odds(*inputs, weigh, preset, how, splits)
            case "merge":
                merge.merge(WeightedPartial(numbers, numbers, numbers, sums), *inputs)
            case "row_dot":
                rowdot.row_dot(*inputs, offsets=sums[0])
    return next(launch for launch in launches if launch.kernel is KERNELS[family])
