"""Triton's interpreter with the products of tensor cores and the bfloat16 of a GPU.

The interpreter multiplies float32 as it is. By its PTX, Triton hands float32 to the tensor cores
unchanged for tf32, and they leave out 13 bits; for tf32x3 it is rounded first, by `cvt.rna.tf32`,
and so is what that leaves. Products of float16 and bfloat16 are exact, and summed in float32.

The interpreter stores bfloat16, which numpy lacks, as uint16, and computes with the bits as if they
were integers. Here its arrays have the dtype of `ml_dtypes`: casts from float32 round to nearest
even, casts to float32 are exact, and every other operation rounds its result once.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from memsolve_kernels import dispatch
from numpy.typing import NDArray
from triton import language as tl
from triton._C.libtriton import ir
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, ReduceOps, TensorHandle

Numbers = NDArray[np.float32]
Product = Callable[[Numbers, Numbers], Numbers]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALVES = (np.dtype(np.float16), BFLOAT16)


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
_dot = InterpreterBuilder.create_dot
_cast = InterpreterBuilder.cast_impl
_load, _store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
_sum = ReduceOps.sum
_numpy_dtype = interpreter._get_np_dtype
_patch_lang = interpreter._patch_lang
interpreter_lacks = dispatch.interpreter_lacks


def install(patch: pytest.MonkeyPatch) -> None:
    """Let the interpreter compute as described above until the patch is undone."""
    patch.setattr(dispatch, "interpreter_lacks", lambda dtype: False)
    patch.setattr(interpreter, "_patch_lang", patch_lang)
    patch.setattr(interpreter, "_get_np_dtype", numpy_dtype)
    patch.setattr(InterpreterBuilder, "create_dot", create_dot)
    patch.setattr(InterpreterBuilder, "cast_impl", cast_impl)
    patch.setattr(InterpreterBuilder, "get_bf16", get_bf16, raising=False)
    patch.setattr(InterpreterBuilder, "create_masked_load", create_masked_load)
    patch.setattr(InterpreterBuilder, "create_masked_store", create_masked_store)
    patch.setattr(ReduceOps, "sum", reduce_sum)


def patch_lang(function: Any) -> Any:
    """`interpreter._patch_lang`, which searches the language's modules in every call of a function.

    Within a kernel that is a third of the interpreter's time, and they have been patched already.
    """
    modules = [m for m in function.__globals__.values() if m is tl or m is tl.core]
    if any(tl.core.is_builtin(module.load) for module in modules):
        return _patch_lang(function)
    return SimpleNamespace(restore=lambda: None)


def numpy_dtype(kind: Any) -> Any:
    """`interpreter._get_np_dtype`: of the array that holds elements of Triton's type."""
    return BFLOAT16 if kind.scalar == tl.bfloat16 else _numpy_dtype(kind)


def create_dot(builder: Any, a: Any, b: Any, total: Any, precision: Any, imprecise: Any) -> Any:
    """`InterpreterBuilder.create_dot`, in the requested precision."""
    x, y = a.data, b.data
    if x.dtype in HALVES and total.data.dtype == np.float32:
        product = x.astype(np.float32) @ y.astype(np.float32)
    elif x.dtype == np.float32 and precision in PRODUCTS:
        product = PRODUCTS[precision](x, y)
    else:
        return _dot(builder, a, b, total, precision, imprecise)
    return TensorHandle(product + total.data, total.dtype.scalar)


def cast_impl(builder: Any, source: Any, kind: Any) -> Any:
    """`InterpreterBuilder.cast_impl`, which takes bfloat16 from float32 without rounding."""
    if tl.bfloat16 not in (source.dtype.scalar, kind.scalar):
        return _cast(builder, source, kind)
    with np.errstate(all="ignore"):  # a GPU does not warn of overflow or NaN
        return TensorHandle(source.data.astype(numpy_dtype(kind)), kind.scalar)


def get_bf16(builder: Any, value: float) -> Any:
    """`InterpreterBuilder.get_bf16`, a constant, which the interpreter lacks before Triton 3.9."""
    return builder.create_fp_trunc(builder.get_fp32(value), tl.bfloat16)


def create_masked_load(builder: Any, at: Any, mask: Any, other: Any, *policy: Any) -> Any:
    """`InterpreterBuilder.create_masked_load`; its C++ takes the dtypes of numpy alone."""
    if at.get_element_ty() != tl.bfloat16:
        return _load(builder, at, mask, other, *policy)
    at = TensorHandle(at.data, tl.pointer_type(tl.uint16))
    bits = _load(builder, at, mask, None if other is None else bits_of(other), *policy)
    return TensorHandle(bits.data.view(BFLOAT16), tl.bfloat16)


def create_masked_store(builder: Any, at: Any, value: Any, *policy: Any) -> Any:
    """`InterpreterBuilder.create_masked_store`, likewise."""
    stored = bits_of(value) if value.dtype.scalar == tl.bfloat16 else value
    return _store(builder, at, stored, *policy)


def bits_of(values: Any) -> Any:
    """Bfloat16 as uint16."""
    return TensorHandle(values.data.view(np.uint16), tl.uint16)


def reduce_sum(reduction: Any, values: Any) -> Any:
    """`ReduceOps.sum`, of bfloat16 by halves: rounded after each addition, as between threads."""
    if values.dtype.scalar != tl.bfloat16:
        return _sum(reduction, values)
    data, axis = values.handle.data, reduction.axis or 0
    if reduction.axis is None:
        data = data.reshape(-1, *[1] * (data.ndim - 1))
    while data.shape[axis] > 1:
        low, high = np.split(data, 2, axis)
        data = low + high
    kept = data if reduction.keep_dims else data.squeeze(reduction.axis)
    return reduction.to_tensor(kept, tl.bfloat16)
