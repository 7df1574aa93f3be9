"""Products in Triton's interpreter as tensor cores make them; it multiplies float32 as it is.

By its PTX, Triton hands float32 to the tensor cores unchanged for tf32, and they leave out 13 bits;
for tf32x3 it is rounded first, by `cvt.rna.tf32`, and so is what that leaves.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from triton._C.libtriton import ir
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

Numbers = NDArray[np.float32]
Product = Callable[[Numbers, Numbers], Numbers]


def cut(x: Numbers) -> Numbers:
    """Float32 without the 13 bits that tf32 has no room for."""
    return (x.view(np.int32) & -(2**13)).view(np.float32)


def rounded(x: Numbers) -> Numbers:
    """Float32 to the nearest that tf32 has, in a tie to the larger."""
    return cut((x.view(np.int32) + 2**12).view(np.float32))


def tf32(x: Numbers, y: Numbers) -> Numbers:
    """The product of what tensor cores see."""
    product: Numbers = cut(x) @ cut(y)
    return product


def tf32x3(x: Numbers, y: Numbers) -> Numbers:
    """The product of what is rounded, and of what that leaves of either."""
    large, wide = rounded(x), rounded(y)
    product: Numbers = rounded(x - large) @ wide + large @ rounded(y - wide) + large @ wide
    return product


PRODUCTS: dict[Any, Product] = {ir.INPUT_PRECISION.TF32: tf32, ir.INPUT_PRECISION.TF32x3: tf32x3}
_as_it_is = InterpreterBuilder.create_dot


def create_dot(builder: Any, a: Any, b: Any, total: Any, precision: Any, imprecise: Any) -> Any:
    """`InterpreterBuilder.create_dot`, in the precision that is asked for."""
    if a.data.dtype != np.float32 or precision not in PRODUCTS:
        return _as_it_is(builder, a, b, total, precision, imprecise)
    return TensorHandle(PRODUCTS[precision](a.data, b.data) + total.data, total.dtype.scalar)
