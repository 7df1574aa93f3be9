"""The law of anisotropic input embeddings."""

from memsolve.embeddings import eigenvalues
from memsolve.theory.laws import Method


def effective_dim(dim: int, anisotropy: float) -> float:
    """Effective dimension of embeddings, `1 / sum_j lambda_j^2` of their covariance of trace 1.

    Two such embeddings have an inner product of about `effective_dim^(-1/2)`. It is `d` at
    kappa = 0 and grows as `d` below kappa = 1/2, as `d^(2 - 2 kappa)` between 1/2 and 1, and not
    as a power of `d` above 1.
    """
    return 1 / float(eigenvalues(dim, anisotropy).square().sum())


def share_at_anisotropy(
    method: Method | None, alpha: float, dim: int, anisotropy: float
) -> float | None:
    """Items that one step recovers from anisotropic inputs, relative to isotropic ones (derived).

    SGD's capacity `d^(1/(2 alpha))` follows from the inner product of two inputs, so that
    `effective_dim` takes the place of `d`. Newton's step without damping gives the same logits
    after any invertible linear map of the inputs, so its share is 1. There is no law for Muon.
    """
    shares = {
        "sgd": (effective_dim(dim, anisotropy) / dim) ** (1 / (2 * alpha)),
        "newton": 1.0,
    }
    return None if method is None else shares.get(method)
