"""Derivatives of the matrix sign: of any order, any shape, and at repeated singular values."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memsolve_kernels import matrix_sign
from memsolve_kernels.errors import RangeError
from memsolve_kernels.matrix_sign import certify
from memsolve_kernels.matrix_sign.derivative import derivative
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own

Loss = Callable[[Tensor], Tensor]

GENERATOR = torch.Generator().manual_seed(0)
EYE = torch.eye(2, dtype=torch.float64)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=GENERATOR)


def repeated(rows: int, columns: int) -> Tensor:
    """A matrix whose singular values are 2, 2, 1, 1, ..."""
    left, right = (torch.linalg.qr(random(size, size)).Q for size in (rows, columns))
    values = torch.tensor([2.0, 2.0, 1.0, 1.0], dtype=torch.float64)[: min(rows, columns)]
    matrix: Tensor = left[:, : len(values)] * values @ right[: len(values)]
    return matrix


MATRICES: dict[str, tuple[Tensor, float]] = {
    "wide": (random(2, 4), 0.0),
    "tall": (random(3, 2), 0.0),
    "one row": (random(1, 3), 0.0),
    "orthogonal": (EYE, 0.0),
    "repeated": (repeated(3, 4), 0.0),
    "batch": (random(2, 1, 2, 3), 0.3),
    "damped, repeated": (repeated(4, 3), 0.3),
    "damped, rank 1": (torch.outer(random(3), random(2)), 0.3),
    "damped, zero": (torch.zeros(2, 3, dtype=torch.float64), 0.3),
}


@pytest.mark.parametrize("name", MATRICES)
def test_both_modes_and_the_second_derivative_are_those_of_differences(name: str) -> None:
    matrix, damping = MATRICES[name]
    leaf = matrix.clone().requires_grad_()

    def sign(matrix: Tensor) -> Tensor:
        return matrix_sign(matrix, damping)

    assert gradcheck(sign, leaf, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(sign, leaf, check_fwd_over_rev=True)


DAMPING, POINT, DIRECTION = 0.2, random(2, 3), random(2, 3)


def loss(matrix: Tensor) -> Tensor:
    return matrix_sign(matrix, DAMPING).pow(3).sum()


def loss_of_eigenvectors(matrix: Tensor) -> Tensor:
    """The same by autograd through a decomposition, for singular values that differ."""
    values, basis = torch.linalg.eigh(matrix @ matrix.mT + DAMPING**2 * EYE)
    inverse_root = (basis * values.rsqrt()[..., None, :]) @ basis.mT
    total: Tensor = (inverse_root @ matrix).pow(3).sum()
    return total


BATCH = torch.stack([POINT, -2 * POINT])

TRANSFORMS: dict[str, Callable[[Loss], Tensor]] = {
    "grad": lambda loss: grad(loss)(POINT),
    "jvp": lambda loss: jvp(loss, (POINT,), (DIRECTION,))[1],
    "hessian": lambda loss: hessian(loss)(POINT),
    "jacrev of jacrev": lambda loss: jacrev(jacrev(loss))(POINT),
    "third": lambda loss: jacrev(jacrev(jacrev(loss)))(POINT),
    "jvp of third": lambda loss: jvp(jacrev(jacrev(loss)), (POINT,), (DIRECTION,))[1],
    "vmap of grad": lambda loss: vmap(grad(loss))(BATCH),
    "vmap of hessian": lambda loss: vmap(hessian(loss))(BATCH),
    "grad of vmap": lambda loss: grad(lambda batch: vmap(loss)(batch).sum())(BATCH),
    "jvp of vmap": lambda loss: jvp(vmap(loss), (BATCH,), (BATCH,))[1],
    "backward of vmap": lambda loss: _gradient(lambda batch: vmap(loss)(batch).sum(), BATCH),
}


def _gradient(loss: Loss, matrix: Tensor) -> Tensor:
    leaf = matrix.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    return gradient


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_those_of_a_decomposition(name: str) -> None:
    transform = TRANSFORMS[name]
    torch.testing.assert_close(transform(loss), transform(loss_of_eigenvectors))


def test_backward_around_forward_where_torchs_own_decompositions_fail() -> None:
    """There the gradient of its eigh is NaN, and that of its solve wrong."""
    torch.testing.assert_close(jacrev(jacfwd(loss))(POINT), hessian(loss_of_eigenvectors)(POINT))
    ours, (point, step) = jacrev(jacfwd(jacrev(loss)))(POINT), (POINT, 1e-4 * DIRECTION)
    ours = torch.einsum("abcdij,ij->abcd", ours, DIRECTION)
    ahead, behind = (hessian(loss_of_eigenvectors)(point + sign * step) for sign in (1, -1))
    torch.testing.assert_close(ours, (ahead - behind) / 2e-4, rtol=1e-6, atol=1e-6)


def test_dual_numbers_carry_a_tangent() -> None:
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(POINT, DIRECTION)
        tangent = forward_ad.unpack_dual(matrix_sign(dual, DAMPING)).tangent
    torch.testing.assert_close(tangent, derivative(POINT, DIRECTION, DAMPING))


def test_what_is_not_supported_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="forward mode over forward mode"):
        jacfwd(jacfwd(loss))(POINT)
    with pytest.raises(NotImplementedError, match=r"no derivative: pass matrix\.detach\(\)"):
        jvp(lambda matrix: certify(matrix).sign, (POINT,), (DIRECTION,))


@pytest.mark.parametrize("rank", [0, 1])
def test_without_damping_a_matrix_needs_full_rank(rank: int) -> None:
    singular = rank * torch.outer(random(3), random(4))
    batch = torch.stack([random(3, 4), singular]).requires_grad_()
    for damping in (0.0, 1e-20 * rank):
        signs = matrix_sign(batch, damping)
        with pytest.raises(RangeError, match=r"has no full rank.*give a damping"):
            signs.sum().backward()
    assert vmap(grad(lambda matrix: matrix_sign(matrix).sum()))(batch)[1].isnan().all()
    matrix_sign(batch, 0.1).sum().backward()
    assert batch.grad is not None
    assert batch.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("schedule", [None, "muon"])
def test_the_gradient_is_that_of_the_exact_sign_in_any_dtype(
    dtype: torch.dtype, schedule: str | None
) -> None:
    matrix = random(3, 5).to(dtype).requires_grad_()
    weights = random(3, 5).to(dtype)
    (matrix_sign(matrix, schedule=schedule) * weights).sum().backward()
    assert matrix.grad is not None
    assert matrix.grad.dtype == dtype
    exact = derivative(matrix.detach().double(), weights.double(), 0.0)
    torch.testing.assert_close(matrix.grad, exact.to(dtype))


def test_values_keep_their_bits_and_no_graph_is_made_without_need() -> None:
    for damping in (0.0, 0.1):
        for matrix in (random(5, 4), random(2, 3, 3).float()):
            tracked = matrix_sign(matrix.clone().requires_grad_(), damping)
            assert torch.equal(tracked, matrix_sign(matrix, damping))
            assert tracked.requires_grad
            assert not matrix_sign(matrix, damping).requires_grad
    with torch.no_grad():
        assert not matrix_sign(random(2, 2).requires_grad_()).requires_grad


def test_an_empty_matrix_has_an_empty_gradient() -> None:
    empty = torch.zeros(0, 3, requires_grad=True)
    matrix_sign(empty).sum().backward()
    assert empty.grad is not None
    assert empty.grad.shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [1e-150, 1e150])
def test_a_scale_that_overflows_as_a_square_does_not_matter(
    size: float, dtype: torch.dtype
) -> None:
    size = size if dtype == torch.float64 else size**0.2
    matrix, direction = (size * random(3, 4)).to(dtype), random(3, 4).to(dtype)
    at_one = derivative((matrix / size).double(), direction.double(), 0.0)
    scaled = derivative(matrix, direction, 0.0).double() * size
    torch.testing.assert_close(scaled, at_one, rtol=1e-4, atol=1e-4)


SIDES, DAMPINGS = st.integers(1, 5), st.sampled_from([0.0, 0.1, 2.0])
close = torch.testing.assert_close


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, DAMPINGS, st.integers(0, 2**30))
def test_laws_of_the_derivative(rows: int, columns: int, damping: float, seed: int) -> None:
    """Symmetry, orthogonal invariance, degree -1, and for no damping no change along the matrix."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    left, right = (torch.linalg.qr(draw(size, size)).Q for size in (rows, columns))
    rank = min(rows, columns)
    values = 0.5 + torch.rand(rank, dtype=torch.float64, generator=generator).sort().values
    G = left[:, :rank] * values @ right[:rank]
    E, F = draw(rows, columns), draw(rows, columns)

    def J(G: Tensor, E: Tensor, damping: float = damping) -> Tensor:  # noqa: N802
        return derivative(G, E, damping)

    close((E * J(G, F)).sum(), (F * J(G, E)).sum())
    assert (E * J(G, E)).sum() >= -1e-12
    U, V = (torch.linalg.qr(draw(size, size)).Q for size in (rows, columns))
    close(J(U @ G @ V, U @ E @ V), U @ J(G, E) @ V)
    close(J(3 * G, E, 3 * damping), J(G, E) / 3)
    close(J(G.mT, E.mT), J(G, E).mT)
    if damping == 0:
        close(J(G, G), torch.zeros_like(G), rtol=0, atol=1e-12)
        close(J(G, left[:, :rank] @ right[:rank]), torch.zeros_like(G), rtol=0, atol=1e-12)
