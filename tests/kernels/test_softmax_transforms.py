"""The softmax loss in forward mode and under the transforms of torch.func."""

from collections.abc import Callable

import memsolve_kernels as mk
import pytest
import torch
from memsolve_kernels.dispatch import BackendName
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.functional import hvp, vhp
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.nn.functional import cross_entropy

from tests.kernels.softmax_cases import Case

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own

Loss = Callable[[Tensor], Tensor]
CASE = Case.random(4, 11, 3)
Q, T, BOTH = CASE.queries, CASE.queries.flip(0), torch.stack([CASE.queries, -CASE.queries])

TRANSFORMS: dict[str, Callable[[Loss], Tensor]] = {
    "jvp": lambda loss: jvp(loss, (Q,), (T,))[1],
    "jacfwd": lambda loss: jacfwd(loss)(Q),
    "grad": lambda loss: grad(loss)(Q),
    "jacrev": lambda loss: jacrev(loss)(Q),
    "jvp of grad": lambda loss: jvp(grad(loss), (Q,), (T,))[1],
    "grad of jvp": lambda loss: grad(lambda q: jvp(loss, (q,), (T,))[1])(Q),
    "hessian": lambda loss: hessian(loss)(Q),
    "jacrev of jacrev": lambda loss: jacrev(jacrev(loss))(Q),
    "hvp": lambda loss: hvp(loss, Q, T)[1],
    "vhp": lambda loss: vhp(loss, Q, T)[1],
    "vmap": lambda loss: vmap(loss)(BOTH),
    "vmap of grad": lambda loss: vmap(grad(loss))(BOTH),
    "vmap of hessian": lambda loss: vmap(hessian(loss))(BOTH),
}


def torch_loss(queries: Tensor) -> Tensor:
    return cross_entropy(queries @ CASE.outputs.T, CASE.targets, reduction="none") @ CASE.weights


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_equals_that_of_all_logits(backend: BackendName, name: str) -> None:
    transform = TRANSFORMS[name]

    def loss(queries: Tensor) -> Tensor:
        return mk.softmax_loss(queries, *CASE.args[1:], backend=backend)

    torch.testing.assert_close(transform(loss), transform(torch_loss))


def test_dual_numbers_carry_a_tangent_without_a_graph() -> None:
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(Q, T)
        ours, peer = (
            forward_ad.unpack_dual(loss(dual)).tangent
            for loss in (lambda q: mk.softmax_loss(q, *CASE.args[1:]), torch_loss)
        )
    torch.testing.assert_close(ours, peer)


def test_forward_mode_of_the_direct_gradient_is_the_hessian_product() -> None:
    tangent = jvp(lambda q: mk.softmax_gradient(q, *CASE.args[1:])[1], (Q,), (T,))[1]
    torch.testing.assert_close(tangent, mk.softmax_hvp(Q, T, *CASE.args[1:]))


def test_by_the_weights_and_then_by_the_outputs() -> None:
    """The outer transform is all that knows of the outputs."""

    def both(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        gradient: Tensor = grad(lambda v: grad(loss, 1)(v, CASE.weights).sum())(CASE.outputs)
        return gradient

    ours = both(lambda v, w: mk.softmax_loss(Q, v, CASE.targets, w))
    expected = both(lambda v, w: w @ cross_entropy(Q @ v.T, CASE.targets, reduction="none"))
    torch.testing.assert_close(ours, expected)


@pytest.mark.filterwarnings("ignore:There is a performance drop.*addcmul:UserWarning")
def test_mapped_outputs_and_statistics() -> None:
    outputs = torch.stack([CASE.outputs, -CASE.outputs])
    losses = vmap(lambda v: mk.softmax_loss(Q, v, *CASE.args[2:]))(outputs)
    expected = [mk.softmax_loss(Q, v, *CASE.args[2:]) for v in outputs]
    torch.testing.assert_close(losses, torch.stack(expected))
    statistics = vmap(lambda q: mk.retrieval(q, *CASE.args[1:3]))(BOTH)
    torch.testing.assert_close(statistics[4][1], mk.retrieval(-Q, *CASE.args[1:3]).loss)
    products = vmap(lambda t: mk.softmax_hvp(Q, t, *CASE.args[1:]))(BOTH)
    torch.testing.assert_close(products[1], mk.softmax_hvp(Q, -Q, *CASE.args[1:]))


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: jacrev(jacrev(jacrev(LOSS)))(Q), "differentiable twice"),
    (lambda: jacfwd(hessian(LOSS))(Q), "forward mode over forward mode"),
    (lambda: jacfwd(jacfwd(LOSS))(Q), "forward mode over forward mode"),
    (lambda: jacrev(grad(OF_BOTH), argnums=1)(Q, CASE.outputs), "by the outputs"),
    (lambda: jacrev(grad(OF_BOTH, 1), argnums=0)(Q, CASE.outputs), "by the outputs"),
    (lambda: jacrev(grad(OF_BOTH, 1), argnums=1)(Q, CASE.outputs), "by the outputs"),
    (lambda: hessian(lambda s: OF_BOTH(Q, CASE.outputs * s))(torch.ones(()).double()), "outputs"),
    (lambda: jvp(lambda q: mk.softmax_hvp(q, T, *CASE.args[1:]), (Q,), (T,)), "twice"),
    (lambda: jvp(lambda q: mk.retrieval(q, *CASE.args[1:3]), (Q,), (T,)), "no derivative"),
    (lambda: jvp(lambda v: mk.retrieval(Q, v, CASE.targets % 4), (Q,), (T,)), "no derivative"),
    (lambda: jvp(lambda v: mk.softmax_hvp(Q, T, v, CASE.targets % 4), (Q,), (T,)), "twice"),
    (lambda: jvp(lambda v: mk.softmax_loss(Q, v, CASE.targets % 4), (Q,), (T,)), "by the queries"),
]


def LOSS(queries: Tensor) -> Tensor:  # noqa: N802 - a constant of the module
    return mk.softmax_loss(queries, *CASE.args[1:])


def OF_BOTH(queries: Tensor, outputs: Tensor) -> Tensor:  # noqa: N802
    return mk.softmax_loss(queries, outputs, *CASE.args[2:])


@pytest.mark.parametrize(("derivative", "message"), REFUSED)
def test_other_derivatives_are_refused(derivative: Callable[[], object], message: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        derivative()
