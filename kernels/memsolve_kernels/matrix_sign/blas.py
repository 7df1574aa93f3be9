"""The products of a Newton-Schulz step by torch's own matrix multiplication, on any device.

On a CPU, products that are known to be symmetric are taken block by block in the lower triangle and
mirrored, and float16, which CPUs multiply hundreds of times slower than float32, is multiplied in
float32 and rounded once per product, as a GPU's tensor cores do.
"""

import torch
from torch import Tensor

_BLOCK = 256


def gram(X: Tensor) -> Tensor:
    """`X X^T`."""
    if _multiplies_slowly(X):
        return gram(X.float()).to(X.dtype)
    return _symmetric_product(X, X) if _worth_halving(X) else X @ X.mT


def polynomial(A: Tensor, b: float, c: float) -> Tensor:
    """`b A + c A^2` of symmetric `A`."""
    if c == 0:
        return b * A
    if _multiplies_slowly(A):
        return polynomial(A.float(), b, c).to(A.dtype)
    if _worth_halving(A):
        return _symmetric_product(A, A).mul_(c).add_(A, alpha=b)
    return torch.baddbmm(A, A, A, beta=b, alpha=c)


def update(X: Tensor, B: Tensor, a: float) -> Tensor:
    """`a X + B X`."""
    if _multiplies_slowly(X):
        return update(X.float(), B.float(), a).to(X.dtype)
    return torch.baddbmm(X, B, X, beta=a)


def symmetric_update(Y: Tensor, B: Tensor, a: float) -> Tensor:
    """`a Y + B Y` of symmetric `Y` and `B` that commute."""
    if _worth_halving(Y):
        return _symmetric_product(B, Y).add_(Y, alpha=a)
    return update(Y, B, a)


def _symmetric_product(X: Tensor, Y: Tensor) -> Tensor:
    """`X Y^T`, known to be symmetric: 5/8 of the work with four blocks, half in the limit."""
    size = X.shape[-2]
    product = X.new_empty(*X.shape[:-1], size)
    for top in range(0, size, _BLOCK):
        rows = slice(top, top + _BLOCK)
        product[:, rows, : rows.stop] = X[:, rows] @ Y[:, : rows.stop].mT
        product[:, :top, rows] = product[:, rows, :top].mT
    return product


def _worth_halving(X: Tensor) -> bool:
    full_precision = X.dtype in (torch.float32, torch.float64)
    return X.device.type == "cpu" and full_precision and X.shape[-2] >= 2 * _BLOCK


def _multiplies_slowly(X: Tensor) -> bool:
    return X.device.type == "cpu" and X.dtype == torch.float16
