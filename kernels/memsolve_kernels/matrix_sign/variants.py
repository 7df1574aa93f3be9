"""Every kernel of the family in every preset, for `memsolve_kernels.compiled`."""

from collections.abc import Iterator
from typing import Any

from memsolve_kernels.compiled import Variant
from memsolve_kernels.matrix_sign.presets import TABLE, Kind, Tile, input_precision
from memsolve_kernels.matrix_sign.triton_kernels import batched, symmetric, update

POINTERS = ("X", "Y", "Z", "B", "out", "out_X", "out_Y")
NUMBERS = ("alpha", "beta", "a", "damping")


def variants(arch: int) -> Iterator[Variant]:
    """Each row of the table as it is launched, with every optional part switched on."""
    for kind, presets in TABLE.items():
        preset = presets[arch]
        tile = preset.symmetric
        constants = {"HAS_Z": True, "BLOCK": tile.rows, "DEPTH": tile.depth, "GROUP": tile.group}
        yield _tiled("symmetric", symmetric.symmetric_kernel, kind, tile, constants)
        tile = preset.update
        constants = {
            "ROWS": tile.rows,
            "COLUMNS": tile.columns,
            "DEPTH": tile.depth,
            "GROUP": tile.group,
        }
        yield _tiled("update", update.update_kernel, kind, tile, constants)
        side = preset.batched_to
        for rows, damped in ((side, True), (side, False), (side // 2, True)):
            yield _batched(kind, rows, side, damped)


def _tiled(name: str, kernel: Any, kind: Kind, tile: Tile, constants: dict[str, Any]) -> Variant:
    return Variant(
        f"matrix_sign.{name} {kind}",
        kernel,
        _arguments(kernel, kind, constants),
        constants | {"PRECISION": input_precision(kind)},
        tile.warps,
        tile.stages,
        kind != "ieee",
    )


def _batched(kind: Kind, rows: int, columns: int, damped: bool) -> Variant:
    constants = {"SCALE": True, "DAMPED": damped, "ROWS": rows, "COLUMNS": columns}
    kernel = batched.batched_kernel
    return Variant(
        f"matrix_sign.batched {kind} {rows}x{columns}" + (" damped" if damped else ""),
        kernel,
        _arguments(kernel, kind, constants),
        constants | {"PRECISION": input_precision(kind)},
        batched.warps(rows, columns),
        1,
        kind != "ieee",
    )


def _arguments(kernel: Any, kind: Kind, constants: dict[str, Any]) -> dict[str, str]:
    matrix = "*bf16" if kind == "half" else "*fp32"
    types = dict.fromkeys(POINTERS, matrix) | dict.fromkeys(NUMBERS, "fp32")
    return {
        name: types.get(name, "*fp32" if name == "coefficients" else "i32")
        for name in kernel.arg_names
        if name not in constants and name != "PRECISION"
    }
