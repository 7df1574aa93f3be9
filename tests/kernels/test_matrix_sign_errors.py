"""Invalid arguments of the matrix sign, and the messages of their errors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from memsolve_kernels import matrix_sign
from memsolve_kernels.errors import (
    BackendError,
    DtypeError,
    InputError,
    NonFiniteError,
    RangeError,
    ShapeError,
)
from memsolve_kernels.matrix_sign import Polynomial, Schedule, certify


def test_divergence_is_an_error() -> None:
    exploding = Schedule("explode", (Polynomial(40.0, -1.0, 1.0),) * 8, 1e-3)
    for function in (matrix_sign, certify):
        with pytest.raises(NonFiniteError, match="diverged"):
            function(torch.eye(5), schedule=exploding)


EYE = torch.eye(2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: matrix_sign(torch.ones(3)), ShapeError, r"shape \(3,\)"),
        (lambda: matrix_sign(torch.ones(2, 2, dtype=torch.int64)), DtypeError, "int64"),
        (lambda: matrix_sign(EYE.to(torch.complex64)), DtypeError, "complex64"),
        (lambda: matrix_sign(EYE, -1.0), RangeError, "damping is -1.0"),
        (lambda: matrix_sign(EYE, float("nan")), RangeError, "damping is nan"),
        (lambda: matrix_sign(EYE, float("inf")), RangeError, "damping is inf"),
        (lambda: matrix_sign(EYE * float("nan")), NonFiniteError, "NaN or infinity"),
        (lambda: matrix_sign(EYE * float("inf"), 0.1), NonFiniteError, "NaN or infinity"),
        (lambda: certify(EYE * float("nan")), NonFiniteError, "NaN or infinity"),
        (lambda: matrix_sign(EYE, None), RangeError, "damping is None"),  # type: ignore[arg-type]
        (lambda: matrix_sign(EYE, torch.ones(2)), RangeError, "damping is tensor"),  # type: ignore[arg-type]
        (lambda: matrix_sign(np.eye(2)), DtypeError, "ndarray"),  # type: ignore[arg-type]
        (lambda: matrix_sign([[1.0, 0.0]]), DtypeError, "matrix is list; expected a torch.Tensor"),  # type: ignore[arg-type]
        (lambda: certify([[1.0, 0.0]]), DtypeError, "matrix is list"),  # type: ignore[arg-type]
        (lambda: matrix_sign(EYE.to_sparse()), DtypeError, r"torch.sparse_coo; .*to_dense\(\)"),
        (lambda: certify(EYE.to_sparse()), DtypeError, "layout torch.sparse_coo; expected a"),
        (lambda: matrix_sign(EYE.to_mkldnn()), DtypeError, "layout torch._mkldnn; expected a"),
        (lambda: matrix_sign(EYE * float("nan"), backend="reference"), NonFiniteError, "NaN"),
        (lambda: matrix_sign(EYE, steps=0), RangeError, "steps is 0"),
        (
            lambda: certify(EYE, steps=np.int64(0)),  # type: ignore[arg-type]
            RangeError,
            "expected an integer of at least 1",
        ),
        (lambda: matrix_sign(EYE, steps=2.5), RangeError, "steps is 2.5"),  # type: ignore[arg-type]
        (lambda: matrix_sign(EYE, schedule=5), RangeError, "schedule is 5"),  # type: ignore[arg-type]
        (lambda: matrix_sign(torch.empty(0, 3), schedule="moun"), RangeError, "'muon'"),
        (lambda: matrix_sign(EYE, dtype=torch.int32), DtypeError, "dtype is torch.int32"),
        (lambda: matrix_sign(EYE, schedule="moun"), RangeError, "'muon'"),
        (lambda: matrix_sign(EYE, backend="cuda"), BackendError, "'cuda'"),  # type: ignore[arg-type]
        (lambda: matrix_sign(EYE, precision="fp8"), BackendError, "fp8"),  # type: ignore[arg-type]
        (lambda: matrix_sign(EYE, precision="tf32x3"), BackendError, "cannot honour"),
        (lambda: matrix_sign(EYE.half(), precision="ieee"), BackendError, "float16"),
        (lambda: matrix_sign(EYE, backend="reference", steps=3), BackendError, "SVD"),
    ],
)
def test_unusable_arguments_are_refused(
    call: Callable[[], object], error: type[InputError], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_steps_may_be_of_any_integer_type() -> None:
    three: Any = np.int64(3)
    expected = matrix_sign(EYE, steps=3)
    assert torch.equal(matrix_sign(EYE, steps=three), expected)
    mapped = torch.func.vmap(lambda matrix: matrix_sign(matrix, steps=three))(EYE[None])
    assert torch.equal(mapped[0], expected)


def test_precision_follows_torchs_own_settings() -> None:
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "bf16"
        with pytest.raises(BackendError, match="cannot honour"):
            matrix_sign(EYE, precision="ieee")
        assert matrix_sign(EYE).isfinite().all()
    finally:
        matmul.fp32_precision = before


def test_what_has_no_values_has_no_certificate() -> None:
    with pytest.raises(BackendError, match="no values to certify"):
        certify(EYE.to("meta"))
    with pytest.raises(BackendError, match="no values to certify"):
        torch.func.vmap(lambda matrix: certify(matrix).sign)(EYE.expand(2, 2, 2))
