"""The law of the noise scale of the gradient."""

from typing import Literal


def noise_scale_exponent(
    norm: Literal["euclidean", "nuclear"], alpha: float, recovered: float = 0
) -> float:
    """Exponent in `d` of the noise scale of the gradient without its most frequent items (derived).

    The gradient is that at `W = 0` of all but the `k = d^recovered` most frequent items, as after a
    step that recovers these. In the Euclidean norm the noise scale is the sum of the remaining
    frequencies over the sum of their squares, `k^(1 - alpha) / k^(1 - 2 alpha) = k^alpha`.

    In the nuclear norm it is `(tr E[xi xi^T]^(1/2) / |G|_*)^2`. The first `d` items have nearly
    orthogonal gradients, so the eigenvalues of the moment are `j^-alpha` and the singular values
    of `G` are `j^-alpha`, for `j` from `k` to `d`; the items beyond `d` add a `d^-alpha` to each,
    which changes no sum's power. Without the first `d` items both matrices are isotropic, and the
    powers of the two noise scales agree. Where the power vanishes for `alpha = 2`, the noise scale
    grows as `(log d)^2`.

    With the number of items that one step recovers, `k^alpha` has the power of the saturation batch
    size (`exponent`), since a batch of `k^alpha` examples holds item `k` about once.

    Args:
        norm: of the gradient and of its noise.
        alpha: exponent of the frequencies, above 1.
        recovered: exponent of the number of items left out; 0 leaves out none that count.
    """
    if norm == "euclidean" or recovered >= 1:
        return alpha * recovered
    noise = max(2 - alpha, recovered * (2 - alpha))
    return noise + 2 * recovered * (alpha - 1)
