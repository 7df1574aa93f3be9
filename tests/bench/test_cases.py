"""Each case is right, says what it costs, and gives no number where its result is wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import memsolve_kernels
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import table
from bench.cases import CASES, QUICK
from bench.measure import Ceilings, clock
from bench.registry import Case, Unsupported, Way, lookup, matching, relative_error
from bench.rows import Row, check, measure

SMALL = matching(QUICK, "", "cpu")
LIMITS = Ceilings(1e9, 1e9)
GRADIENT = next(case for case in SMALL if case.function.name == "softmax_gradient")


def only(case: Case, *names: str) -> Case:
    ways = tuple(way for way in case.function.ways if way.name in names)
    return replace(case, function=replace(case.function, ways=ways))


def rows(case: Case) -> dict[str, Row]:
    return {row.way: row for row in measure(case, 0.01, LIMITS)}


def test_names_are_unique() -> None:
    names = [case.name for case in [*CASES, *QUICK]]
    assert len(set(names)) == len(names)


def test_the_issues_shapes_are_in_the_table() -> None:
    names = {case.name for case in CASES}
    for dim in (64, 256):
        assert f"softmax_gradient B=1024 N=32768 d={dim} float32 cpu" in names


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_every_way_is_right_or_says_why_not(case: Case) -> None:
    inputs = case.inputs()
    truth = case.function.reference(inputs)
    for way in case.function.ways:
        if way.name == "torch.compile":
            continue  # minutes of compilation; the table runs it
        found = check(case, way, inputs, truth, clock("cpu")).row
        assert found.status in ("ok", "bound") or (found.status == "skipped" and found.note)
        assert way.name != "ours" or found.status == "ok"


def test_the_truth_of_the_gradient_is_that_of_autograd_in_float64() -> None:
    given = GRADIENT.inputs()
    queries = given.queries.double().requires_grad_()
    logits = queries @ given.outputs.double().T
    loss = torch.nn.functional.cross_entropy(logits, given.targets)
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    assert relative_error(gradient.detach(), GRADIENT.function.reference(given)) < 1e-12
    product = next(case for case in SMALL if case.function.name == "softmax_hvp")
    (exact,) = torch.autograd.grad((gradient * given.directions).sum(), queries)
    assert relative_error(exact, product.function.reference(given)) < 1e-12


@pytest.mark.parametrize(
    ("name", "way"), [("softmax_gradient", "two GEMMs"), ("retrieval", "one GEMM")]
)
def test_flops_are_those_that_torch_counts(name: str, way: str) -> None:
    case = next(case for case in SMALL if case.function.name == name)
    (bound,) = only(case, way).function.ways
    run = bound.prepare(case.inputs())
    with FlopCounterMode(display=False) as counter:
        run()
    assert counter.get_total_flops() == case.flops


def broken(*arguments: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    loss, gradient = memsolve_kernels.softmax_gradient(*arguments, **options)
    return loss, gradient * 1.001


def failing(*arguments: Any, **options: Any) -> None:
    raise RuntimeError("an illegal instruction\nand more")


@pytest.mark.parametrize(
    ("function", "status", "says"),
    [(broken, "wrong result", "relative error 1.0e-03"), (failing, "failed", "an illegal")],
)
def test_a_broken_kernel_gives_no_number(
    function: Callable[..., Any], status: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def substituted(path: str) -> Any:
        return function if path == "memsolve_kernels:softmax_gradient" else lookup(path)

    monkeypatch.setattr("bench.cases.softmax.lookup", substituted)
    found = rows(only(GRADIENT, "ours", "sdpa K=V"))
    ours = found["ours"]
    assert ours.status == status
    assert says in ours.note
    assert not ours.hot
    assert ours.flops is None
    assert found["sdpa K=V"].hot
    assert found["sdpa K=V"].ratio is None
    line = table.lines([ours])[1]
    assert status in line
    assert says in line
    assert "~" not in line


def test_a_function_that_the_commit_lacks_is_skipped() -> None:
    with pytest.raises(Unsupported, match="no_such_function"):
        lookup("memsolve_kernels:no_such_function")
    with pytest.raises(Unsupported, match="no_such_package"):
        lookup("no_such_package.of_ours:function")

    def absent(given: Any) -> Any:
        return lookup("memsolve_kernels:no_such_function")

    case = replace(GRADIENT, function=replace(GRADIENT.function, ways=(Way("ours", absent),)))
    (row,) = measure(case, 0.01, LIMITS)
    assert row.status == "skipped"


def test_a_row_holds_its_samples_and_its_shares() -> None:
    found = rows(only(GRADIENT, "ours", "sdpa K=V", "two GEMMs"))
    ours, peer = found["ours"], found["sdpa K=V"]
    assert len(ours.hot) >= 3
    assert ours.launch is None  # a CPU has no queue
    assert ours.flops == pytest.approx(GRADIENT.flops / ours.median)
    assert ours.of_gemm == pytest.approx(GRADIENT.flops / ours.median / 1e9)
    assert ours.of_copy == pytest.approx(GRADIENT.bytes / ours.median / 1e9)
    assert peer.ratio is not None
    assert peer.ratio.low <= peer.ratio.value <= peer.ratio.high
    assert found["two GEMMs"].status == "bound"
    assert found["two GEMMs"].error is None


@pytest.mark.parametrize("bad", [torch.full((2,), torch.nan), torch.zeros(3), torch.zeros(2, 1)])
def test_a_result_that_is_no_number_or_has_another_shape_is_wrong(bad: torch.Tensor) -> None:
    assert relative_error(bad, torch.ones(2)) == float("inf")
