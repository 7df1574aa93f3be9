"""Fused kernels for softmax-logistic regression and the matrix sign: pure functions on tensors."""
