"""Softmax-logistic regression: loss, gradient, Hessian product, retrieval."""

from memsolve_kernels.softmax.api import (
    Retrieval,
    retrieval,
    softmax_gradient,
    softmax_hvp,
    softmax_loss,
)

__all__ = ["Retrieval", "retrieval", "softmax_gradient", "softmax_hvp", "softmax_loss"]
