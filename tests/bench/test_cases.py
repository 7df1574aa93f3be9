"""Each case is right, says what it costs, and gives no number where its result is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import memsolve_kernels
import pytest
import torch

from bench import __main__, record, table
from bench.cases import CASES, QUICK, peers
from bench.cases.matrix_sign import DAMPING
from bench.measure import Ceilings
from bench.measure.rounds import LEAST_ROUNDS
from bench.registry import (
    OURS,
    Case,
    Result,
    Run,
    Unsupported,
    Way,
    counted,
    lookup,
    matching,
    relative_error,
)
from bench.rows import Row, compared, measure
from bench.trial import Trial

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
    for function, size, form in product(
        ("matrix_sign", "matrix_sign_damped"), (256, 1024), ("float32", "float64")
    ):
        assert f"{function} k=1 n={size} {form} cpu" in names


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_every_way_is_right_or_says_why_not(case: Case) -> None:
    trial = Trial(case)
    for way in case.function.ways:
        if way.name == "torch.compile":
            continue  # a case of it is compiled below; the table compiles all
        found = trial.check(way).verdict
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


def test_a_compiled_way_runs_under_pytest() -> None:
    pytest.importorskip("pytest_benchmark")
    command = ["pytest", "bench", "-k", "retrieval and compile", "--benchmark-disable", "-q"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", *command, "-p", "no:cacheprovider"],
        cwd=root,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_every_compiled_way_is_compiled_and_never_silently_eager(
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
    ("name", "way"),
    [
        ("softmax_gradient", "two GEMMs"),
        ("softmax_gradient", "cross_entropy"),
        ("retrieval", "one GEMM"),
        ("retrieval", "torch eager"),
    ],
)
def test_flops_are_those_that_torch_counts(name: str, way: str) -> None:
    case = next(case for case in SMALL if case.function.name == name)
    (counting,) = only(case, way).function.ways
    given = case.inputs()
    assert counted(counting.prepare)(given) == case.function.flops(given)


def test_the_hessian_product_takes_three_products() -> None:
    case = next(case for case in SMALL if case.function.name == "softmax_hvp")
    given = case.inputs()

    def three_products(given: Any) -> Run:
        def run() -> torch.Tensor:
            probabilities = (given.queries @ given.outputs.T).softmax(1)
            along = given.directions @ given.outputs.T
            mean = (probabilities * along).sum(1, keepdim=True)
            result: torch.Tensor = (probabilities * (along - mean)) @ given.outputs
            return result / len(result)

        return run

    assert relative_error(three_products(given)(), case.function.reference(given)) < 1e-5
    assert counted(three_products)(given) == case.function.flops(given)


STEPPING = [case for case in SMALL if case.function.name in ("matrix_sign", "muon_step")]
DAMPED = matching([*SMALL, *CASES], r"^matrix_sign_damped .* n=\d\d\d ", "cpu")


@pytest.mark.parametrize("case", [*STEPPING, *DAMPED], ids=lambda case: case.name)
def test_steps_of_the_sign_are_credited_as_they_are_taken(case: Case) -> None:
    given = case.inputs()
    damping, products = (DAMPING, 5) if "damped" in case.name else (0.0, 3)
    steps = case.function.flops(given) / (products * 2 * case.size.k * case.size.n**3)
    assert steps == int(steps)
    sign = partial(memsolve_kernels.matrix_sign, given[0], damping, backend="torch")
    assert torch.equal(sign(steps=int(steps)), sign())
    assert not torch.equal(sign(steps=int(steps) - 1), sign())


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


def changing(after: int, change: Callable[[torch.Tensor], torch.Tensor]) -> Way:
    """Attention that gives something else after so many calls."""
    (attention,) = only(GRADIENT, "sdpa K=V").function.ways

    def prepare(given: Any) -> Run:
        run = attention.prepare(given)
        calls: list[None] = []

        def changed() -> Result:
            calls.append(None)
            result = run()
            assert isinstance(result, torch.Tensor)
            return result if len(calls) <= after else change(result)

        return changed

    return Way("changing", prepare)


def out_of_memory(result: torch.Tensor) -> torch.Tensor:
    raise MemoryError("no more of it")


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        (torch.zeros_like, "wrong result", "relative error 1.0e+00, tolerance 1e-04, after it was"),
        (out_of_memory, "failed", "MemoryError: no more of it"),
    ],
)
def test_a_way_that_is_right_at_first_only_has_no_number(
    change: Callable[[torch.Tensor], torch.Tensor], status: str, says: str
) -> None:
    ours = GRADIENT.function.ours
    ways = (ours, changing(3, change), *only(GRADIENT, "sdpa K=V").function.ways)
    found = rows(replace(GRADIENT, function=replace(GRADIENT.function, ways=ways)))
    assert found["changing"].status == status
    assert says in found["changing"].note
    assert not found["changing"].hot
    assert found["changing"].ratio is None
    assert found["ours"].hot
    assert found["sdpa K=V"].ratio is not None


def test_a_step_of_an_optimizer_leads_to_the_same_place_each_time() -> None:
    trial = Trial(next(case for case in SMALL if case.function.name == "muon_step"))
    for way in trial.case.function.ways:
        run = way.prepare(trial.inputs)
        for _ in range(3):
            assert trial.judge(way, run()).status == "ok"


def test_a_case_without_inputs_is_a_failed_row_of_each_way() -> None:
    def absent(*arguments: Any) -> Any:
        raise MemoryError("too large\nby far")

    case = replace(GRADIENT, function=replace(GRADIENT.function, inputs=absent))
    found = measure(case, 0.01, LIMITS)
    assert [row.way for row in found] == [way.name for way in case.function.ways]
    assert {row.status for row in found} == {"failed"}
    assert {row.note for row in found} == {"MemoryError: too large"}


def test_an_interrupted_run_keeps_the_cases_that_it_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(case: Case, seconds: float, limits: Ceilings) -> list[Row]:
        if case is not SMALL[0]:
            raise KeyboardInterrupt
        return [Row(case.name, "ours", "ok", hot=[1.0], extra_bytes=0)]

    out = tmp_path / "record.json"
    monkeypatch.setattr(sys, "argv", ["bench", "--device", "cpu", "--out", str(out)])
    monkeypatch.setattr(__main__, "CASES", SMALL)
    monkeypatch.setattr(__main__, "ceilings", lambda *arguments: LIMITS)
    monkeypatch.setattr(__main__, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        __main__.main()
    assert [row.case for row in record.load(out)["rows"]] == [SMALL[0].name]


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
    flops = GRADIENT.function.flops(GRADIENT.inputs())
    moved = GRADIENT.function.bytes(GRADIENT.size, 4)
    assert len(ours.hot) >= LEAST_ROUNDS
    assert ours.launch is None  # a CPU has no queue
    assert ours.flops == pytest.approx(flops / ours.median)
    assert ours.of_gemm == pytest.approx(flops / ours.median / 1e9)
    assert ours.bytes == pytest.approx(moved / ours.median)
    assert ours.of_copy == pytest.approx(moved / ours.median / 1e9)
    assert peer.ratio is not None
    assert peer.ratio.low <= peer.ratio.value <= peer.ratio.high
    assert found["two GEMMs"].status == "bound"
    assert found["two GEMMs"].error is None


def test_a_bound_that_does_the_work_of_another_function_has_its_shares() -> None:
    case = next(case for case in SMALL if case.function.name == "softmax_hvp")
    found = rows(only(case, "ours", "our gradient"))
    ours, gradient = found["ours"], found["our gradient"]
    assert ours.flops is not None
    assert gradient.flops is not None
    flops = gradient.flops * gradient.median
    assert flops / (ours.flops * ours.median) == pytest.approx(4 / 6)
    assert flops == pytest.approx(GRADIENT.function.flops(case.inputs()))


def test_a_ratio_is_calibrated_by_the_rounds_that_it_has() -> None:
    again = [1.0] * 6 + [1.0, 1.5] * 10
    short, long = (Row("case", "theirs", "ok", hot=[1.1] * count) for count in (6, 26))
    ours, *others = compared([Row("case", OURS, "ok", hot=[1.0] * 26), short, long], again)
    assert ours.ratio == (1.0, 1.0, 1.5)
    assert [row.differs for row in others] == [True, False]


@pytest.mark.parametrize("bad", [torch.full((2,), torch.nan), torch.zeros(3), torch.zeros(2, 1)])
def test_a_result_that_is_no_number_or_has_another_shape_is_wrong(bad: torch.Tensor) -> None:
    assert relative_error(bad, torch.ones(2)) == float("inf")


def test_a_torch_without_the_fused_loss_has_rows_that_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("torch.nn.functional.linear_cross_entropy", raising=False)
    case = only(GRADIENT, "linear_cross_entropy", "linear_cross_entropy, chunked")
    trial = Trial(case)
    for way in case.function.ways:
        verdict = trial.check(way).verdict
        assert (verdict.status, "has no linear_cross_entropy" in verdict.note) == ("skipped", True)
