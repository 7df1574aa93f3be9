"""Every softmax kernel in every preset, as its launcher launches it on meta tensors."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from memsolve_kernels.launch import Launch, Variant, record_launches
from memsolve_kernels.softmax.partials import HvpContext, WeightedPartial
from memsolve_kernels.softmax.plan import LaunchConfig, TileConfig, input_precision, tile_configs
from memsolve_kernels.softmax.presets import ANY_DIM, FEW, TABLE
from memsolve_kernels.softmax.triton_kernels import (
    covariance,
    curvature,
    merge,
    odds,
    outputs_gradient,
    rank,
    row_dot,
    scratch,
)

KERNELS = {
    "odds": odds.odds_kernel,
    "curvature": curvature.curvature_kernel,
    "covariance": covariance.covariance_kernel,
    "outputs": outputs_gradient.outputs_kernel,
    "output_weights": outputs_gradient.output_weights_kernel,
    "entropy_weights": outputs_gradient.output_weights_kernel,
    "rank": rank.rank_kernel,
    "long_rank": rank.rank_kernel,
    "weights": scratch.weights_kernel,
    "centred": scratch.centred_weights_kernel,
    "accumulate": scratch.accumulate_kernel,
    "merge": merge.merge_kernel,
    "merge_curvature": curvature.merge_curvature_kernel,
    "row_dot": row_dot.row_dot_kernel,
}
BY_OUTPUTS = ("outputs", "output_weights", "entropy_weights")
BATCH, ITEMS = 1024, 4096  # one compilation serves all sizes
LARGE_DIM = 1024  # for kernels that iterate over d


def variants(arch: int) -> Iterator[Variant]:
    """Each row of the table as it is launched, and the small kernels without a row."""
    for name, kind in TABLE:
        tiles = tile_configs(name, kind, arch)
        for tile in tiles:
            dim = LARGE_DIM if name in ANY_DIM else tile.block_d
            label = f"softmax.{name} {kind}" + ("" if name in ANY_DIM else f" d<={dim}")
            same = [other for other in tiles if other.block_d == tile.block_d]
            if tile.block_b == FEW or tile.block_b < max(other.block_b for other in same):
                label += f" B<={tile.block_b}"
            launch, tensor_cores = _launch(name, kind, arch, dim, tile), kind != "ieee"
            yield Variant(label, launch, tensor_cores)
            if name == "outputs":
                by_entropy = _of_entropy(launch)
                yield Variant(f"{label} of entropy", by_entropy, tensor_cores)
                of_both = _with_bias(by_entropy)
                yield Variant(f"{label} of entropy with a bias", of_both, tensor_cores)
            if name in BY_OUTPUTS:
                yield Variant(f"{label} with a bias", _with_bias(launch), tensor_cores)
    for name in ("merge", "merge_curvature", "row_dot"):
        tile = tile_configs("long_rank", "half", arch)[-1]
        launch = _launch(name, "half", arch, LARGE_DIM, tile)
        yield Variant(f"softmax.{name}", launch, tensor_cores=False)


def _of_entropy(launch: Launch) -> Launch:
    """The launch for a gradient that an entropy takes part in."""
    pairs = launch.arguments["targets"]  # of the same shape and dtype
    return replace(launch, arguments={**launch.arguments, "pairs": pairs})


def _with_bias(launch: Launch) -> Launch:
    """The launch for a gradient that is also by a bias."""
    of_bias = {"BIAS_COLUMN": launch.arguments["DIM"] - 1, "HAS_TOTALS": True}
    changes = {name: each for name, each in of_bias.items() if name in launch.arguments}
    return replace(launch, arguments={**launch.arguments, **changes})


def _launch(name: str, kind: str, arch: int, dim: int, tile: TileConfig) -> Launch:
    """The launch of a pass's kernel in a call whose kernel of that kind has this tile."""
    dtype = torch.bfloat16 if kind == "half" else torch.float32
    queries, outputs = (
        torch.empty(rows, dim, dtype=dtype, device="meta") for rows in (BATCH, ITEMS)
    )
    targets = torch.empty(BATCH, dtype=torch.int64, device="meta")
    numbers, sums = torch.empty(1, BATCH, device="meta"), torch.empty(1, BATCH, dim, device="meta")
    inputs = queries, outputs, targets
    context = HvpContext(queries, numbers.T, numbers[0], numbers[0])
    weights = outputs_gradient.QueryWeights(numbers[0], numbers[0], numbers[0], unit=numbers[0, :1])
    exchanged = outputs, queries, targets, weights, None
    precision = input_precision(kind)
    config = LaunchConfig(tile, precision)
    weigh, add = (
        LaunchConfig(tile_configs(each, kind, arch)[-1], precision)
        for each in ("weights", "accumulate")
    )
    with record_launches() as launches:
        match name:
            case "odds":
                odds.launch_odds(*inputs, config)
            case "curvature" | "merge_curvature":
                curvature.launch_curvature(queries, *inputs, config)
            case "covariance":
                covariance.launch_covariance(*inputs, context, config)
            case "outputs":
                outputs_gradient.launch_outputs_gradient(*exchanged, config)
            case "output_weights" | "entropy_weights":
                outputs_gradient.outputs_gradient_by_scratch(*exchanged, config, add)
            case "rank" | "long_rank":
                rank.launch_ranks(*inputs, numbers[0], config)
            case "weights":
                scratch.odds_by_scratch(*inputs, config, add)
            case "centred":
                scratch.covariance_by_scratch(*inputs, context, config, add)
            case "accumulate":
                scratch.odds_by_scratch(*inputs, weigh, config)
            case "merge":
                merge.launch_merge(WeightedPartial(numbers, numbers, numbers, sums), *inputs)
            case "row_dot":
                row_dot.launch_row_dot(*inputs, offsets=sums[0])
    launch = next(launch for launch in launches if launch.kernel is KERNELS[name])
    return _of_entropy(launch) if name == "entropy_weights" else launch
