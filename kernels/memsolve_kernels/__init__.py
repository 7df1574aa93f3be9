"""Fused kernels for softmax-logistic regression and the matrix sign: pure functions on tensors."""

from memsolve_kernels.matrix_sign import matrix_sign
from memsolve_kernels.softmax import (
    Retrieval,
    SoftmaxHead,
    SoftmaxStatistics,
    log_probabilities,
    retrieval,
    softmax_gradient,
    softmax_hvp,
    softmax_loss,
    softmax_statistics,
)

__version__ = "0.3.0.dev0"  # of both distributions, memsolve and memsolve-kernels

__all__ = [
    "Retrieval",
    "SoftmaxHead",
    "SoftmaxStatistics",
    "log_probabilities",
    "matrix_sign",
    "retrieval",
    "softmax_gradient",
    "softmax_hvp",
    "softmax_loss",
    "softmax_statistics",
]
