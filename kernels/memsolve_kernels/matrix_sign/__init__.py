"""The damped matrix sign `(G G^T + lambda^2 I)^(-1/2) G`, and schedules that reach it."""

from memsolve_kernels.matrix_sign.certificate import Certificate, certify
from memsolve_kernels.matrix_sign.polynomials import STOCK, Polynomial, Schedule, minimax
from memsolve_kernels.matrix_sign.sign import check_settings, matrix_sign

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
