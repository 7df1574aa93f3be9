"""What only a GPU can show of the softmax kernels: repeatability, size, memory, no hidden waits."""

from collections.abc import Callable
from functools import partial

import memsolve_kernels as mk
import pytest
import torch
from memsolve_kernels.dispatch import Precision
from torch import Tensor

from tests.kernels.softmax_cases import Case, ours, relative_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# (batch, items, dim, dtype, precision): one pass, few queries, d at the table's ends, by scratch
STRATEGIES: list[tuple[int, int, int, torch.dtype, Precision | None]] = [
    (1000, 5000, 64, torch.bfloat16, None),
    (1, 50_000, 128, torch.bfloat16, None),
    (300, 3000, 256, torch.float16, None),
    (300, 3000, 512, torch.bfloat16, None),
    (300, 3000, 2000, torch.bfloat16, None),
    (300, 3000, 64, torch.float32, "tf32"),
    (300, 3000, 64, torch.float32, "tf32x3"),
    (300, 3000, 1024, torch.float32, "tf32x3"),
    (300, 3000, 96, torch.float32, "ieee"),
]


def results(case: Case, precision: Precision | None) -> list[Tensor]:
    loss, gradient = mk.softmax_gradient(*case.args, backend="triton", precision=precision)
    product = mk.softmax_hvp(
        case.queries, case.queries, *case.args[1:], backend="triton", precision=precision
    )
    statistics = mk.retrieval(*case.args[:3], backend="triton", precision=precision)
    return [loss, gradient, product, *statistics]


@pytest.mark.parametrize(("batch", "items", "dim", "dtype", "precision"), STRATEGIES)
def test_ten_runs_give_the_same_bits(
    batch: int, items: int, dim: int, dtype: torch.dtype, precision: Precision | None
) -> None:
    case = Case.random(batch, items, dim, dtype=dtype, scale=2.0).on("cuda")
    first = results(case, precision)
    for _ in range(9):
        again = results(case, precision)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("dim", [64, 256, 600])
def test_the_gradient_by_outputs_has_the_same_bits_in_every_run(dim: int) -> None:
    case = Case.random(3000, 500, dim, dtype=torch.bfloat16, scale=2.0).on("cuda")
    first = ours(case, "triton")[2]
    assert all(torch.equal(first, ours(case, "triton")[2]) for _ in range(9))


@pytest.mark.parametrize("dim", [64, 128, 256, 512, 1024, 4096])
def test_recovered_items_keep_their_gradient_in_bfloat16(dim: int) -> None:
    case = Case.random(64, 2000, dim, dtype=torch.float32).at_margin(25.0).to(torch.bfloat16)
    exact = case.to(torch.float64)
    each = torch.ones(64)
    _, truth = mk.softmax_gradient(*exact.args[:3], each.double(), backend="reference")
    case = case.on("cuda")
    _, gradient = mk.softmax_gradient(*case.args[:3], each.cuda())
    rows = zip(gradient.cpu(), truth, strict=True)
    assert max(relative_error(ours, true) for ours, true in rows) <= 1e-3
    loss = mk.retrieval(*case.args[:3]).loss.cpu().double()
    losses = mk.retrieval(*exact.args[:3], backend="reference").loss
    assert float((loss / losses - 1).abs().max()) <= 1e-5


@pytest.mark.parametrize("dim", [128, 1024])
def test_offsets_into_the_outputs_pass_two_to_the_31(dim: int) -> None:
    items = 2**31 // dim + 1000
    outputs = torch.randn(items, dim, device="cuda", dtype=torch.bfloat16) / dim**0.5
    targets = torch.tensor([0, 5, items // 2, items - 500, items - 1], device="cuda")
    case = Case(3 * outputs[targets], outputs, targets, torch.ones(5, device="cuda"))
    ours = results(case, None)
    loss, gradient = mk.softmax_gradient(*case.args, backend="torch")
    product = mk.softmax_hvp(case.queries, case.queries, *case.args[1:], backend="torch")
    statistics = mk.retrieval(*case.args[:3], backend="torch")
    for value, truth in zip(ours, [loss, gradient, product, *statistics], strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("dim", [16, 600])
def test_queries_times_items_pass_two_to_the_31(dim: int) -> None:
    batch, items = 2**17 + 3, 2**14 + 5
    queries = torch.randn(batch, dim, device="cuda", dtype=torch.bfloat16)
    outputs = torch.randn(items, dim, device="cuda", dtype=torch.bfloat16) / dim**0.5
    targets = torch.randint(items, (batch,), device="cuda")
    complete = Case(queries, outputs, targets, torch.ones(batch, device="cuda"))
    last = Case(queries[-50:], outputs, targets[-50:], complete.weights[-50:])
    _, gradient, product, *statistics = results(complete, None)
    _, last_gradient, last_product, *last_statistics = results(last, None)
    torch.testing.assert_close(gradient[-50:], last_gradient, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(product[-50:], last_product, rtol=1e-2, atol=1e-3)
    for value, truth in zip(statistics, last_statistics, strict=True):
        torch.testing.assert_close(value[-50:], truth, rtol=1e-3, atol=1e-3)


def peak(run: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("dim", [64, 256, 1024])
def test_memory_does_not_grow_with_the_items(dim: int) -> None:
    batch = 20_000
    used = []
    queries = torch.randn(batch, dim, device="cuda", dtype=torch.bfloat16)
    for items in (2**16, 2**17):
        outputs = torch.randn(items, dim, device="cuda", dtype=torch.bfloat16) / dim**0.5
        targets = torch.randint(items, (batch,), device="cuda")
        used.append(peak(partial(mk.softmax_gradient, queries, outputs, targets)))
    assert max(used) <= 12 * batch * dim + 256e6
    assert abs(used[1] / used[0] - 1) <= 0.01


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")  # torch's, once
@pytest.mark.parametrize("dim", [64, 1024])
def test_nothing_waits_for_the_device_and_graphs_capture(dim: int) -> None:
    case = Case.random(200, 3000, dim, dtype=torch.bfloat16).on("cuda")
    truth = results(case, None)
    try:  # the first line too: what it raises must not leave the mode to later tests
        torch.cuda.set_sync_debug_mode("error")
        results(case, None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = results(case, None)
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(captured, truth, strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of torch.jit
def test_compiles_without_graph_breaks() -> None:
    case = Case.random(64, 3000, 64, dtype=torch.bfloat16).on("cuda")

    @torch.compile(fullgraph=True)
    def step(queries: Tensor) -> Tensor:
        return 2 * mk.softmax_loss(queries, *case.args[1:])

    queries = case.queries.clone().requires_grad_()
    (derived,) = torch.autograd.grad(step(queries), queries)
    _, gradient = mk.softmax_gradient(*case.args)
    torch.testing.assert_close(derived, (2 * gradient).to(torch.bfloat16))
