"""The matrices in a parameter: a batch, a flattened kernel, or the heads of a projection."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple


class Blocks(NamedTuple):
    """A contiguous parameter read as matrices (matrices, rows, columns)."""

    matrices: int
    rows: int
    columns: int


def blocks_of(shape: Sequence[int], batch_dims: int, heads: int) -> Blocks:
    """The matrices of a parameter.

    Args:
        shape: of the parameter: `batch_dims` batch dimensions, the rows, and one or more dimensions
            that are flattened to the columns.
        batch_dims: number of leading batch dimensions.
        heads: number of equal blocks of rows, each a matrix.
    """
    batch, (rows, *columns) = shape[:batch_dims], shape[batch_dims:]
    return Blocks(prod(batch) * heads, rows // heads, prod(columns))
