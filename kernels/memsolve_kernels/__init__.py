"""Fused kernels for softmax-logistic regression and the matrix sign: pure functions on tensors."""

from memsolve_kernels.softmax import (
    Retrieval,
    retrieval,
    softmax_gradient,
    softmax_hvp,
    softmax_loss,
)

__all__ = ["Retrieval", "retrieval", "softmax_gradient", "softmax_hvp", "softmax_loss"]
