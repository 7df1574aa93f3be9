"""Losses and statistics by every option, against all logits in float64 by autograd."""

from dataclasses import replace
from typing import Any

import memsolve_kernels as mk
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memsolve_kernels import errors
from memsolve_kernels.dispatch import BackendName
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.measure import extra_bytes
from tests.kernels import softmax_full
from tests.kernels.softmax_cases import Case, relative_error
from tests.kernels.softmax_full import IGNORED, Options, Tracked, every_option

BACKENDS: list[BackendName] = ["reference", "torch"]
SIZES = [(7, 37, 5), (1, 1, 3), (3, 1, 4), (0, 5, 2), (1100, 6, 2), (4, 1300, 6)]


def weighted(results: Any) -> Tensor:
    """A sum of statistics by different weights, which repeat in no other place."""
    total = torch.zeros((), dtype=torch.float64)
    for place, each in enumerate(results):
        factors = torch.linspace(-1, 1, each.numel() + 1, dtype=torch.float64)[1:] + place
        total = total + (factors * each.double().flatten()).sum()
    return total


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
def test_statistics_and_their_gradients_are_those_of_all_logits(
    size: tuple[int, int, int], backend: BackendName
) -> None:
    case, options = Case.random(*size, scale=3.0), every_option(size[1])
    truth, ours = Tracked.of(case, options), Tracked.of(case, options)
    expected = softmax_full.statistics(truth.case, truth.options)
    results = mk.softmax_statistics(
        *ours.case.args[:3], **ours.options.arguments(), backend=backend
    )
    torch.testing.assert_close(results._asdict(), expected)
    gradients = truth.gradients(weighted(expected.values()))
    torch.testing.assert_close(ours.gradients(weighted(results)), gradients)


@pytest.mark.parametrize("name", ["loss", "log_partition", "entropy", "target_logit"])
@pytest.mark.parametrize("frozen", ["queries", "outputs", None])
def test_each_statistic_alone(name: str, frozen: str | None) -> None:
    case, options = Case.random(6, 40, 5, scale=3.0), Options(label_smoothing=0.2)
    truth, ours = Tracked.of(case, options), Tracked.of(case, options)
    for each in (truth, ours):
        if frozen is not None:
            each.leaves.pop(frozen).requires_grad_(False)
    expected = softmax_full.statistics(truth.case, truth.options)[name]
    result = mk.softmax_statistics(*ours.case.args[:3], label_smoothing=0.2)
    gradients = truth.gradients(weighted([expected]))
    torch.testing.assert_close(ours.gradients(weighted([getattr(result, name)])), gradients)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Case, Options, dict[str, Any]]:
    """A case, some of whose targets are ignored, any options, and arguments of the loss."""
    batch, items = draw(st.integers(0, 5)), draw(st.integers(1, 9))
    case = Case.random(batch, items, draw(st.integers(1, 4)), scale=draw(st.sampled_from([1, 9.0])))
    every = every_option(items)
    names = draw(st.sets(st.sampled_from(sorted(vars(every)))))
    options = Options(**{name: getattr(every, name) for name in names})
    ignored = torch.tensor(draw(st.lists(st.booleans(), min_size=batch, max_size=batch)))
    targets = case.targets.masked_fill(ignored.bool(), IGNORED)
    has_weights = draw(st.booleans())
    arguments: dict[str, Any] = {
        "ignore_index": IGNORED,
        "backend": draw(st.sampled_from(BACKENDS)),
    }
    if has_weights:
        arguments["weights"] = case.weights
    elif draw(st.booleans()):
        arguments["reduction"] = "none"
    return replace(case, targets=targets), options, arguments


@given(call=calls())
@settings(max_examples=60, deadline=None)
def test_every_combination_of_arguments(call: tuple[Case, Options, dict[str, Any]]) -> None:
    case, options, arguments = call
    truth, ours = Tracked.of(case, options), Tracked.of(case, options)
    if "weights" in arguments:
        weights = arguments["weights"].masked_fill(case.targets == IGNORED, 0)
        expected = weights @ softmax_full.statistics(truth.case, truth.options)["loss"]
    elif "reduction" in arguments:
        expected = softmax_full.statistics(truth.case, truth.options)["loss"]
    else:
        expected = softmax_full.mean_loss(truth.case, truth.options)
    q, v, y, _ = ours.case.args
    result = mk.softmax_loss(q, v, y, **ours.options.arguments(), **arguments)
    torch.testing.assert_close(result, expected)
    gradients = truth.gradients(weighted([expected]))
    torch.testing.assert_close(ours.gradients(weighted([result])), gradients)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("has_weights", [False, True])
@pytest.mark.parametrize("index", [-100, 3])
def test_label_smoothing_is_torchs(reduction: str, has_weights: bool, index: int) -> None:
    """With ignored targets and class weights too, which torch has computed wrongly before."""
    case = Case.random(9, 11, 4)
    targets = case.targets.masked_fill(torch.arange(9) % 4 == 1, index)
    weights = every_option(11).class_weights if has_weights else None
    ours = mk.softmax_loss(
        case.queries,
        case.outputs,
        targets,
        reduction="none" if reduction == "none" else "weighted",
        ignore_index=index,
        label_smoothing=0.3,
        class_weights=weights,
    )
    logits = case.queries @ case.outputs.T
    theirs = cross_entropy(
        logits, targets, weights, ignore_index=index, reduction=reduction, label_smoothing=0.3
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_errs_no_more_than_twice_torch(dtype: torch.dtype, scale: float) -> None:
    case, options = Case.random(60, 900, 40, dtype=dtype, scale=scale), every_option(900)
    assert options.bias is not None
    options = replace(options, temperature=2.0, bias=8 * options.bias.float().double())
    values = []
    for precision, is_ours in ((torch.float64, False), (dtype, False), (dtype, True)):
        tracked = Tracked.of(case.to(torch.float64), options, precision)
        if is_ours:
            arguments = vars(tracked.options)
            results = mk.softmax_statistics(*tracked.case.args[:3], **arguments)._asdict()
        else:
            results = softmax_full.statistics(tracked.case, tracked.options)
        gradients = tracked.gradients(weighted(results.values()))
        values.append({name: each.detach() for name, each in (results | gradients).items()})
    truth, peer, ours = values
    rounding = max(torch.finfo(dtype).eps, 16 * torch.finfo(torch.float32).eps)  # of the logits
    for name, exact in truth.items():
        bound = max(2 * relative_error(peer[name], exact), rounding)
        assert relative_error(ours[name], exact) <= bound, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_gradient_by_a_temperature_is_not_rounded_to_half_precision(dtype: torch.dtype) -> None:
    case = Case.random(600, 900, 40, dtype=dtype)
    q, v, y, _ = case.args
    ours = torch.tensor(1.7, requires_grad=True)
    truth = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    mk.softmax_loss(q, v, y, temperature=ours).backward()
    cross_entropy(q.double() @ v.double().T / truth, y).backward()
    assert ours.grad is not None
    assert truth.grad is not None
    assert relative_error(ours.grad, truth.grad) < torch.finfo(dtype).eps / 32


def test_second_derivatives_by_the_queries() -> None:
    case, options = Case.random(3, 9, 4), every_option(9)

    def loss(queries: Tensor) -> Tensor:
        arguments = options.arguments()
        return mk.softmax_loss(queries, *case.args[1:3], reduction="none", **arguments)

    queries = case.queries.requires_grad_()
    assert torch.autograd.gradcheck(loss, queries)
    assert torch.autograd.gradgradcheck(loss, queries)


def test_the_entropy_is_exact_at_both_ends() -> None:
    case = Case.random(1, 9, 4).at_margin(40.0)
    logits = (case.queries @ case.outputs.T)[0]
    logs = logits - logits.logsumexp(0)
    others = torch.arange(9) != case.targets
    total = logs[others].exp().sum()
    expected = -(logs.exp() * logs)[others].sum() + total  # -p log p of the target, to first order
    result = mk.softmax_statistics(*case.args[:3]).entropy
    torch.testing.assert_close(result, expected[None], rtol=1e-9, atol=0)
    uniform = mk.softmax_statistics(0 * case.queries, *case.args[1:3]).entropy
    torch.testing.assert_close(uniform.exp(), torch.full((1,), 9.0, dtype=torch.float64))


def test_queries_may_have_several_dimensions() -> None:
    case, options = Case.random(12, 30, 4), {"label_smoothing": 0.1, "z_loss": 1e-3}
    q, v, y, w = case.args
    several = q.view(3, 4, 4), v, y.view(3, 4)
    flat = mk.softmax_statistics(q, v, y, **options)  # type: ignore[arg-type]
    shaped = mk.softmax_statistics(*several, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(shaped, type(flat)(*(each.view(3, 4) for each in flat)))
    losses = mk.softmax_loss(*several, reduction="none", **options)  # type: ignore[arg-type]
    torch.testing.assert_close(losses, flat.loss.view(3, 4))
    assert mk.softmax_loss(*several) == mk.softmax_loss(q, v, y)
    assert mk.softmax_loss(*several, w.view(3, 4)) == mk.softmax_loss(q, v, y, w)
    assert torch.equal(mk.retrieval(*several).rank, mk.retrieval(q, v, y).rank.view(3, 4))
    loss, gradient = mk.softmax_gradient(*several, w.view(3, 4))
    flat_loss, flat_gradient = mk.softmax_gradient(q, v, y, w)
    assert loss == flat_loss
    assert torch.equal(gradient, flat_gradient.view(3, 4, 4))
    directions = q.flip(0)
    product = mk.softmax_hvp(several[0], directions.view(3, 4, 4), *several[1:], w.view(3, 4))
    assert torch.equal(product, mk.softmax_hvp(q, directions, v, y, w).view(3, 4, 4))
    for wrong in (directions, directions.view(4, 3, 4)):
        with pytest.raises(errors.ShapeError, match=r"directions .* shape of queries \(3, 4, 4\)"):
            mk.softmax_hvp(several[0], wrong, *several[1:])
    with pytest.raises(errors.ShapeError, match=r"targets \(12,\) .* expected \(3, 4\)"):
        mk.softmax_loss(q.view(3, 4, 4), v, y)
    with pytest.raises(errors.ShapeError, match=r"targets \(12,\) .* expected \(3, 4\)"):
        mk.softmax_gradient(q.view(3, 4, 4), v, y)
    with pytest.raises(errors.ShapeError, match="an item and a dimension"):
        mk.softmax_loss(q.new_zeros(0, 4, 0), v[:, :0], y.new_zeros(0, 4))


def test_the_accuracy_has_the_bias_and_the_temperature() -> None:
    case, options = Case.random(40, 9, 4), every_option(9)
    assert options.bias is not None
    result = mk.retrieval(*case.args[:3], bias=options.bias, temperature=2.0)
    logits = (case.queries @ case.outputs.T + options.bias) / 2
    assert torch.equal(result.rank == 0, logits.argmax(1) == case.targets)
    torch.testing.assert_close(result.log_partition, logits.logsumexp(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("lowest", [-1e9, torch.finfo(torch.float32).min])
def test_a_bias_below_the_range_of_the_outputs_masks_items(
    dtype: torch.dtype, lowest: float
) -> None:
    case = Case.random(6, 11, 4, dtype=dtype)
    q, v = case.queries, case.outputs.clone().requires_grad_()
    y = case.targets % 8
    bias = torch.zeros(11).masked_fill(torch.arange(11) >= 8, lowest).requires_grad_()
    loss = mk.softmax_loss(q, v, y, bias=bias, temperature=0.5)
    by_outputs, by_bias = torch.autograd.grad(loss, (v, bias))
    rest = v.detach()[:8].requires_grad_()
    expected = mk.softmax_loss(q, rest, y, temperature=0.5)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(by_outputs[:8], torch.autograd.grad(expected, rest)[0])
    assert not by_outputs[8:].any()
    assert not by_bias[8:].any()


def test_a_bias_above_the_range_of_the_outputs_is_refused() -> None:
    q, v, y, _ = Case.random(6, 11, 4, dtype=torch.float16).args
    bias = torch.full((11,), 7e4)
    for temperature, name in ((None, "bias is up to 70000"), (0.1, "bias / temperature is up to")):
        with pytest.raises(errors.RangeError, match=f"{name}.* at most 65504 .*bfloat16 or"):
            mk.softmax_loss(q, v, y, bias=bias, temperature=temperature)
    assert mk.softmax_loss(q.float(), v.float(), y, bias=bias).isfinite()


def test_what_ignored_queries_hold_does_not_matter() -> None:
    case, options = Case.random(6, 11, 4), every_option(11).arguments()
    ignored = torch.arange(6) % 3 == 1
    targets = case.targets.masked_fill(ignored, IGNORED)
    spoiled = case.queries.masked_fill(ignored[:, None], torch.nan)
    results = [
        mk.softmax_statistics(q, case.outputs, targets, ignore_index=IGNORED, **options)
        for q in (case.queries, spoiled)
    ]
    for each, other in zip(*results, strict=True):
        assert torch.equal(each, other)
        assert not each[ignored].any()


def test_gradients_take_tiles_and_themselves() -> None:
    """With label smoothing, z-loss and entropy: less than 5% of what all logits take."""
    case = Case.random(512, 2**14, 64, dtype=torch.float32)
    q, v = case.queries.requires_grad_(), case.outputs.requires_grad_()

    def ours() -> None:
        result = mk.softmax_statistics(q, v, case.targets, label_smoothing=0.1, z_loss=1e-3)
        torch.autograd.grad((result.loss - result.entropy).sum(), (q, v))

    def full() -> None:
        logs = (q @ v.T).log_softmax(1)
        entropy = -(logs.exp() * logs).sum(1)
        torch.autograd.grad((entropy - logs.mean(1)).sum(), (q, v))

    results = q.nbytes + v.nbytes
    assert extra_bytes(ours, "cpu") - results < 0.05 * (extra_bytes(full, "cpu") - results)


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"logit_cap": 30.0}, errors.InputError, "logit_cap=30.0 is not supported: the tanh"),
    ({"z_loss": -1.0}, errors.RangeError, "z_loss is -1.0; expected a number of at least 0"),
    ({"z_loss": torch.ones(())}, errors.RangeError, "z_loss is tensor"),
    ({"label_smoothing": 1.5}, errors.RangeError, "at most 1"),
    ({"temperature": 0}, errors.RangeError, "temperature is 0; expected a positive number"),
    ({"temperature": torch.zeros(())}, errors.RangeError, "temperature is 0.0"),
    ({"temperature": torch.ones(7)}, errors.ShapeError, "divide the queries"),
    ({"bias": torch.ones(10)}, errors.ShapeError, r"bias \(10,\) must hold .* the 11 items"),
    ({"bias": torch.ones(11).half()}, errors.DtypeError, "bias must be torch.float32 .* queries"),
    ({"bias": torch.full((11,), torch.nan)}, errors.NonFiniteError, r"bias\[0\] is nan"),
    ({"bias": [0.0] * 11}, errors.DtypeError, "bias has type list"),
    ({"bias": torch.ones(11).to_sparse()}, errors.DtypeError, "bias has layout sparse_coo"),
    ({"class_weights": torch.ones(3)}, errors.ShapeError, "class_weights"),
    ({"class_weights": -torch.ones(11)}, errors.RangeError, "at least zero"),
    ({"class_weights": torch.ones(11).requires_grad_()}, errors.InputError, "no gradient"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    case = Case.random(6, 11, 4, dtype=torch.float32)
    with pytest.raises(error, match=message):
        mk.softmax_loss(*case.args[:3], **arguments)
