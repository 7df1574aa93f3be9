"""Every kernel of the family in every preset, for `memsolve_kernels.compiled`."""

from collections.abc import Iterator
from typing import Any

from memsolve_kernels.compiled import Variant
from memsolve_kernels.softmax import (
    triton_covariance,
    triton_curvature,
    triton_merge,
    triton_odds,
    triton_rank,
    triton_rowdot,
    triton_scratch,
)
from memsolve_kernels.softmax.presets import TABLE, TILED, Preset, smaller

KERNELS = {
    "odds": triton_odds.odds_kernel,
    "curvature": triton_curvature.curvature_kernel,
    "covariance": triton_covariance.covariance_kernel,
    "rank": triton_rank.rank_kernel,
    "weights": triton_scratch.weights_kernel,
    "centred": triton_scratch.centred_weights_kernel,
    "accumulate": triton_scratch.accumulate_kernel,
}
INPUTS = ("queries", "directions", "outputs", "weights", "vectors")  # in the dtype of the call
LARGE_DIM = 1024  # where d is walked in steps


def variants(arch: int) -> Iterator[Variant]:
    """Each row of the table as it is launched, and the two small kernels around them."""
    for (family, kind), rows in TABLE.items():
        for row in rows.get(arch, []):
            preset = Preset(*row)
            dim = LARGE_DIM if family in TILED else preset.block_d
            constants = {
                "DIM": dim,
                "BLOCK_B": preset.block_b,
                "BLOCK_N": preset.block_n,
                "BLOCK_D": preset.block_d,
                "PRECISION": "ieee" if kind == "half" else kind,
            }
            if family == "accumulate":
                constants["TILE"] = TABLE["weights", kind][arch][0][1]
            dtype = "bf16" if kind == "half" else "fp32"
            name = f"softmax.{family} {kind}" + ("" if family in TILED else f" d<={dim}")
            kernel, tensor_cores = KERNELS[family], kind != "ieee"
            yield _variant(name, kernel, dtype, constants, preset, tensor_cores)
            for block_b in smaller(kind, preset.block_b):
                few = constants | {"BLOCK_B": block_b}
                yield _variant(f"{name} B<={block_b}", kernel, dtype, few, preset, tensor_cores)
    small = {"DIM": LARGE_DIM, "BLOCK_B": triton_merge.BLOCK_B, "BLOCK_D": triton_merge.BLOCK_D}
    preset = Preset(small["BLOCK_B"], 0, small["BLOCK_D"], num_warps=4, num_stages=3)
    yield _variant("softmax.merge", triton_merge.merge_kernel, "bf16", small, preset, False)
    merge = triton_curvature.merge_curvature_kernel
    yield _variant("softmax.merge_curvature", merge, "bf16", small, preset, False)
    offset = small | {"HAS_OFFSET": True}
    yield _variant("softmax.row_dot", triton_rowdot.row_dot_kernel, "bf16", offset, preset, False)


def _variant(
    name: str,
    kernel: Any,
    dtype: str,
    constants: dict[str, Any],
    preset: Preset,
    tensor_cores: bool,
) -> Variant:
    constants = constants | {"stride_dim": 1}  # as Triton takes a stride of one
    arguments = {
        argument: _type(argument, dtype)
        for argument in kernel.arg_names
        if argument not in constants
    }
    return Variant(
        name, kernel, arguments, constants, preset.num_warps, preset.num_stages, tensor_cores
    )


def _type(argument: str, dtype: str) -> str:
    if argument in INPUTS:
        return f"*{dtype}"
    if argument in ("targets", "ranks"):
        return "*i64"
    sizes = ("num_", "stride_", "first_", "items_per_", "tiles_per_")
    return "i32" if argument.startswith(sizes) or argument == "chunk" else "*fp32"
