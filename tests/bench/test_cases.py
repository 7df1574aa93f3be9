"""Every implementation of a case is right or states why it does not run; costs are exact."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import memsolve_kernels
import pytest
import torch

from bench import test_speed
from bench.cases import CASES, QUICK, peers
from bench.cases.matrix_sign import DAMPING
from bench.cases.peers import count_flops
from bench.cases.softmax import Size, make_inputs
from bench.measure import extra_bytes
from bench.registry import Case, Run, select
from bench.timing import Measurement, relative_error

SMALL = {case.function.name: case for case in select(QUICK, "", "cpu")}
GRADIENT = SMALL["softmax_gradient"]


def only(case: Case, *names: str) -> Case:
    """The case with some of its implementations."""
    chosen = tuple(each for each in case.function.implementations if each.name in names)
    return replace(case, function=replace(case.function, implementations=chosen))


def test_names_are_unique() -> None:
    names = [case.name for case in [*CASES, *QUICK]]
    assert len(set(names)) == len(names)


def test_the_issues_shapes_are_in_the_table() -> None:
    names = {case.name for case in CASES}
    for dim in (64, 256):
        assert f"softmax_gradient B=1024 N=32768 d={dim} float32 cpu" in names
    for function, size, fmt in product(
        ("matrix_sign", "matrix_sign_damped"), (256, 1024), ("float32", "float64")
    ):
        assert f"{function} k=1 n={size} {fmt} cpu" in names


@pytest.mark.parametrize("name", SMALL)
def test_every_implementation_is_right_or_says_why_not(name: str) -> None:
    case = SMALL[name]
    inputs = case.make_inputs()
    exact = case.function.reference(inputs)
    for implementation in case.function.implementations:
        if implementation.name == "torch.compile":
            continue  # one is compiled below; the table compiles all
        timing = Measurement(case, implementation, inputs, exact).timing
        assert timing.is_valid or (timing.status == "skipped" and timing.note)
        assert implementation is not case.ours or timing.status == "ok"


def test_losses_are_measured_without_a_copy_of_their_inputs() -> None:
    case = SMALL["softmax_statistics"]
    inputs = make_inputs(Size(8, 8192, 256), case.format, torch.device("cpu"))
    run = case.ours.prepare(inputs)
    run()
    assert extra_bytes(run, "cpu") < 1.5 * inputs.outputs.nbytes  # of which the gradient is one


def test_the_references_of_the_gradient_are_those_of_autograd_in_float64() -> None:
    inputs = GRADIENT.make_inputs()
    queries = inputs.queries.double().requires_grad_()
    logits = queries @ inputs.outputs.double().T
    loss = torch.nn.functional.cross_entropy(logits, inputs.targets)
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    assert relative_error(gradient.detach(), GRADIENT.function.reference(inputs)) < 1e-12
    (hvp,) = torch.autograd.grad((gradient * inputs.directions).sum(), queries)
    assert relative_error(hvp, SMALL["softmax_hvp"].function.reference(inputs)) < 1e-12


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # as in bench/test_speed.py
def test_a_compiled_implementation_runs_under_pytest() -> None:
    case = SMALL["retrieval"]
    (compiled,) = only(case, "torch.compile").function.implementations
    timed = []
    test_speed.test_speed(case, compiled, lambda run: timed.append(run()))
    assert len(timed) == 1


def test_every_compiled_function_is_compiled_and_never_silently_eager(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compilations = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        compilations.append(inputs)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    limit = torch._dynamo.config.recompile_limit
    for size in range(2, limit + 4):
        peers.compiled(torch.sin)(torch.ones(size))
    assert len(compilations) == limit + 2
    compiled = peers.compiled(torch.sin)
    for size in range(2, limit + 2):
        compiled(torch.ones(size))
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        compiled(torch.ones(limit + 2))


@pytest.mark.parametrize(
    ("name", "implementation"),
    [
        ("softmax_gradient", "two GEMMs"),
        ("softmax_gradient", "cross_entropy"),
        ("retrieval", "one GEMM"),
        ("retrieval", "torch eager"),
    ],
)
def test_flops_are_those_that_torch_counts(name: str, implementation: str) -> None:
    case = only(SMALL[name], implementation)
    inputs = case.make_inputs()
    assert count_flops(case.ours.prepare)(inputs) == case.function.flops(inputs)


def test_the_hessian_product_takes_three_products() -> None:
    case = SMALL["softmax_hvp"]
    inputs = case.make_inputs()

    def three_products(inputs: Any) -> Run:
        def run() -> torch.Tensor:
            probabilities = (inputs.queries @ inputs.outputs.T).softmax(1)
            along = inputs.directions @ inputs.outputs.T
            mean = (probabilities * along).sum(1, keepdim=True)
            result: torch.Tensor = (probabilities * (along - mean)) @ inputs.outputs
            return result / len(result)

        return run

    assert relative_error(three_products(inputs)(), case.function.reference(inputs)) < 1e-5
    assert count_flops(three_products)(inputs) == case.function.flops(inputs)


STEPPING = [SMALL["matrix_sign"], SMALL["muon_step"], SMALL["matrix_sign_damped"]]
LARGER = select(CASES, r"^matrix_sign_damped .* n=\d\d\d ", "cpu")


@pytest.mark.parametrize("case", [*STEPPING, *LARGER], ids=lambda case: case.name)
def test_steps_of_the_sign_are_counted_as_they_are_taken(case: Case) -> None:
    inputs = case.make_inputs()
    damping, products = (DAMPING, 5) if "damped" in case.name else (0.0, 3)
    steps = case.function.flops(inputs) / (products * 2 * case.size.k * case.size.n**3)
    assert steps == int(steps)
    sign = partial(memsolve_kernels.matrix_sign, inputs[0], damping, backend="torch")
    assert torch.equal(sign(steps=int(steps)), sign())
    assert not torch.equal(sign(steps=int(steps) - 1), sign())


def test_a_step_of_an_optimizer_leads_to_the_same_place_each_time() -> None:
    case = SMALL["muon_step"]
    for implementation in case.function.implementations:
        measurement = Measurement.of(case, implementation)
        for _ in range(2):
            measurement.finish()
            assert measurement.timing.status == "ok"


@pytest.mark.parametrize("bad", [torch.full((2,), torch.nan), torch.zeros(3), torch.zeros(2, 1)])
def test_a_result_that_is_not_finite_or_has_another_shape_is_wrong(bad: torch.Tensor) -> None:
    assert relative_error(bad, torch.ones(2)) == float("inf")


def test_a_torch_without_the_fused_loss_has_rows_that_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("torch.nn.functional.linear_cross_entropy", raising=False)
    case = only(GRADIENT, "linear_cross_entropy", "linear_cross_entropy, chunked")
    for implementation in case.function.implementations:
        timing = Measurement.of(case, implementation).timing
        assert timing.status == "skipped"
        assert "has no linear_cross_entropy" in timing.note
