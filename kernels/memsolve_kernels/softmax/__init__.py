"""Softmax-logistic regression: loss, gradient, Hessian product, retrieval."""

from memsolve_kernels.softmax.api import (
    Retrieval,
    retrieval,
    softmax_gradient,
    softmax_hvp,
    softmax_loss,
)
from memsolve_kernels.softmax.head import SoftmaxHead

__all__ = [
    "Retrieval",
    "SoftmaxHead",
    "retrieval",
    "softmax_gradient",
    "softmax_hvp",
    "softmax_loss",
]
