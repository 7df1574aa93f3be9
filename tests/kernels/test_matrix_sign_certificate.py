"""The certificate against the residuals that it estimates, and against the error."""

import pytest
import torch
from memsolve_kernels import matrix_sign
from memsolve_kernels.errors import BackendError
from memsolve_kernels.matrix_sign import Polynomial, Schedule, certificate, certify, minimax
from memsolve_kernels.matrix_sign.scaling import Pair

from tests.kernels.matrix_sign_cases import relative_error, with_spectrum


@pytest.mark.parametrize("damping", [0.0, 1e-3])
def test_a_converged_sign_has_no_residuals(damping: float) -> None:
    matrix = with_spectrum(torch.logspace(0, -4, 40, dtype=torch.float64), (40, 60))
    batch = torch.stack([matrix, matrix.flip(1)])
    result = certify(batch, damping)
    assert torch.equal(result.sign, matrix_sign(batch, damping, backend="torch"))
    for residual in result[1:]:
        assert residual.shape == (2,)
        assert residual.max() < 1e-10


@pytest.mark.parametrize("steps", range(4, 12))
def test_orthogonality_is_near_the_error_while_it_converges(steps: int) -> None:
    """For `X` near the sign, `||X X^T - I||` is between the error's size and about twice it."""
    matrix = with_spectrum(torch.logspace(0, -3, 60, dtype=torch.float64), (60, 80))
    truth = matrix_sign(matrix, backend="reference")
    result = certify(matrix, schedule=minimax(1e-3), steps=steps)
    error = relative_error(result.sign, truth) * float(truth.norm())
    assert error / 1.5 < result.orthogonality.item() + 1e-12 < 3 * error + 1e-11


@pytest.mark.parametrize("size", [5, certificate.PROBES, 90])
def test_norms_are_exact_and_negativity_is_near_and_exact_for_small_matrices(size: int) -> None:
    P, Z = torch.randn(2, 3, size, size + 7, dtype=torch.float64)
    orthogonality, asymmetry, negativity = certificate.estimates(Pair(P, None), Pair(Z, None))
    polar, norms = P @ Z.mT, torch.linalg.matrix_norm(Z)
    exact = torch.linalg.matrix_norm(P @ P.mT - torch.eye(size))
    sheared = torch.linalg.matrix_norm(polar - polar.mT) / (2 * norms)
    below = -torch.linalg.eigvalsh((polar + polar.mT) / 2)[:, 0] / norms
    tolerance = 1e-12 if size <= certificate.PROBES else 0.25
    torch.testing.assert_close(orthogonality, exact, rtol=1e-12, atol=0)
    torch.testing.assert_close(asymmetry, sheared, rtol=1e-12, atol=0)
    torch.testing.assert_close(negativity, below, rtol=tolerance, atol=0)
    assert (negativity <= below * (1 + 1e-12)).all()


def test_unresolved_directions_are_counted() -> None:
    values = torch.tensor([1.0, 0.5, 0.2, 1e-12, 1e-12], dtype=torch.float64)
    result = certify(with_spectrum(values, (5, 5)), schedule=minimax(1e-2))
    assert result.orthogonality.item() == pytest.approx(2**0.5, abs=1e-6)


def test_a_single_unresolved_direction_is_seen_wherever_it_points() -> None:
    """Also where it is orthogonal to every probe of the Krylov space."""
    size = 40
    probes = certificate._directions(size, torch.empty(0, dtype=torch.float64))
    dead = torch.linalg.svd(probes).U[:, -1:]
    assert (probes.T @ dead).norm() < 1e-12
    matrix = torch.eye(size, dtype=torch.float64) - dead @ dead.T
    result = certify(matrix, schedule=minimax(1e-2))
    assert result.orthogonality.item() == pytest.approx(1, abs=1e-6)


def test_a_flipped_sign_is_seen() -> None:
    flipping = Schedule("flip", (Polynomial(-1.0, 0.0),), 0.5)
    result = certify(torch.eye(4), schedule=flipping)
    assert result.negativity.item() == pytest.approx(0.25)


def test_the_reference_is_refused() -> None:
    with pytest.raises(BackendError, match="definition"):
        certify(torch.eye(2), backend="reference")


def test_the_default_device_does_not_matter() -> None:
    matrix = torch.randn(40, 50)
    expected = certify(matrix, 0.1)
    with torch.device("meta"):
        result = certify(matrix, 0.1)
    for one, other in zip(result, expected, strict=True):
        assert torch.equal(one, other)
