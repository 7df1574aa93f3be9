"""The damped matrix sign `(G G^T + lambda^2 I)^(-1/2) G`, and schedules that reach it."""

from memsolve_kernels.matrix_sign.api import certify, matrix_sign
from memsolve_kernels.matrix_sign.certificate import Certificate
from memsolve_kernels.matrix_sign.checks import check_settings
from memsolve_kernels.matrix_sign.polynomials import STOCK, Polynomial, Schedule, minimax

__all__ = [
    "STOCK",
    "Certificate",
    "Polynomial",
    "Schedule",
    "certify",
    "check_settings",
    "matrix_sign",
    "minimax",
]
