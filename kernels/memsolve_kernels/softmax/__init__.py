"""Softmax-logistic regression: loss, gradient, Hessian product, retrieval."""

from memsolve_kernels.softmax.api import (
    Retrieval,
    SoftmaxStatistics,
    retrieval,
    softmax_gradient,
    softmax_hvp,
    softmax_loss,
    softmax_statistics,
)
from memsolve_kernels.softmax.head import SoftmaxHead
from memsolve_kernels.softmax.log_probabilities import log_probabilities

__all__ = [
    "Retrieval",
    "SoftmaxHead",
    "SoftmaxStatistics",
    "log_probabilities",
    "retrieval",
    "softmax_gradient",
    "softmax_hvp",
    "softmax_loss",
    "softmax_statistics",
]
