"""Every kernel of the family in every preset, as its launcher launches it on meta tensors."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from memsolve_kernels.launch import Launch, Variant, recorded
from memsolve_kernels.softmax.passes import Aim, WeightedPartial
from memsolve_kernels.softmax.presets import TABLE, TILED, Preset, input_precision, rows, smaller
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
        for row in rows(family, kind, arch):
            preset = Preset(*row)
            dim = LARGE_DIM if family in TILED else preset.block_d
            name = f"softmax.{family} {kind}" + ("" if family in TILED else f" d<={dim}")
            few = {f"{name} B<={size}": size for size in smaller(kind, preset.block_b)}
            for variant, block_b in {name: preset.block_b, **few}.items():
                launch = _launch(family, kind, arch, dim, replace(preset, block_b=block_b))
                yield Variant(variant, launch, tensor_cores=kind != "ieee")
    for family in ("merge", "merge_curvature", "row_dot"):
        launch = _launch(family, "half", arch, LARGE_DIM, Preset(*rows("rank", "half", arch)[0]))
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
    turned = outputs, queries, targets, by_outputs.Pull(*[numbers[0]] * 4)
    weigh, add = (Preset(*rows(each, kind, arch)[0]) for each in ("weights", "accumulate"))
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
            case "rank":
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
