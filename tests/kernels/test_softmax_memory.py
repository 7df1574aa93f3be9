"""Memory of the torch backend: a tile or two, and results; no copy of the outputs."""

import subprocess
import sys
from functools import cache

import memsolve_kernels as mk
import pytest
import torch
from memsolve_kernels.errors import NonFiniteError
from memsolve_kernels.softmax.torch_tiles import iterate_tiles
from torch import Tensor
from torch.func import grad

from bench.measure import extra_bytes
from tests.kernels.softmax_cases import Case

TILE = 4 * 2**20  # bytes, of float32
ITEMS, DIM = 2**14, 512  # eight tiles
HALVES = (torch.bfloat16, torch.float16)
LAYOUTS = ["contiguous", "transposed", "every other", "expanded"]


@cache
def normal() -> Tensor:
    return torch.randn(ITEMS, DIM, generator=torch.Generator().manual_seed(0))


def head(dtype: torch.dtype, layout: str = "contiguous", scale: float = 1.0) -> Tensor:
    rows: Tensor = (normal() * (scale / DIM**0.5)).to(dtype)
    match layout:
        case "transposed":
            return rows.T.contiguous().T
        case "every other":
            return torch.stack([rows, rows], dim=-1)[..., 0]
        case "expanded":
            return rows[:1].expand_as(rows)
    return rows


def tile_of(dtype: torch.dtype) -> int:
    return 2 * TILE if dtype == torch.float64 else TILE


def cases(batch: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    case = Case.random(batch, ITEMS, 1)
    return Case.random(batch, 1, DIM, dtype=dtype).queries, case.targets


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
def test_one_query_takes_a_tile(dtype: torch.dtype, layout: str) -> None:
    scales = [1.0, 1e4] if dtype == torch.float16 else [1.0, 1e30]
    queries, targets = cases(1, dtype)
    for scale in scales if layout == "contiguous" else scales[:1]:
        outputs = head(dtype, layout, scale)

        def evaluate(outputs: Tensor = outputs) -> None:
            mk.softmax_loss(queries, outputs, targets)
            mk.retrieval(queries, outputs, targets)

        def train(outputs: Tensor = outputs) -> None:
            mk.softmax_loss(queries.clone().requires_grad_(), outputs, targets).backward()

        for run in (evaluate, train):
            assert extra_bytes(run, "cpu") < 2.5 * tile_of(dtype)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_the_gradient_by_outputs_takes_itself_and_a_tile(dtype: torch.dtype) -> None:
    outputs = head(dtype).requires_grad_()
    for batch in (1, 64):
        queries, targets = cases(batch, dtype)

        def train(queries: Tensor = queries, targets: Tensor = targets) -> None:
            loss = mk.softmax_loss(queries.clone().requires_grad_(), outputs, targets)
            torch.autograd.grad(loss, outputs)

        extra = extra_bytes(train, "cpu") - outputs.nbytes
        assert extra < 3.5 * TILE
        assert extra < outputs.nbytes or dtype in HALVES  # whose outputs are four tiles


def test_products_with_the_hessian_take_a_tile() -> None:
    outputs, (queries, targets) = head(torch.bfloat16), cases(1, torch.bfloat16)
    assert extra_bytes(lambda: mk.softmax_hvp(queries, queries, outputs, targets), "cpu") < 3 * TILE

    def by_autograd() -> None:
        given = queries.clone().requires_grad_()
        loss = mk.softmax_loss(given, outputs, targets)
        (gradient,) = torch.autograd.grad(loss, given, create_graph=True)
        torch.autograd.grad(gradient.sum(), given)

    assert extra_bytes(by_autograd, "cpu") < 3 * TILE


def test_the_largest_queries_take_a_tile() -> None:
    outputs, (queries, targets) = head(torch.float32, scale=1e-38), cases(1, torch.float32)
    largest = queries.sign() * 3e38
    assert extra_bytes(lambda: mk.softmax_gradient(largest, outputs, targets), "cpu") < 2.5 * TILE


def test_a_transform_by_the_queries_makes_no_zeros_for_the_outputs() -> None:
    outputs, (queries, targets) = head(torch.float32).requires_grad_(), cases(1, torch.float32)

    def run() -> None:
        grad(lambda q: mk.softmax_loss(q, outputs, targets))(queries)

    assert extra_bytes(run, "cpu") < 2.5 * TILE


@pytest.mark.parametrize(
    ("dtype", "layout"), [(torch.bfloat16, "contiguous"), (torch.float32, "every other")]
)
def test_all_tiles_are_converted_in_one_place(dtype: torch.dtype, layout: str) -> None:
    """One allocation a tile, each freed, let glibc's heap grow to a copy of all outputs."""
    queries, targets = cases(1, torch.float32)
    tiles = iterate_tiles(queries, head(dtype, layout), targets)
    assert len({tile.values.data_ptr() for tile in tiles}) == 1


def test_a_number_that_is_not_finite_is_an_error_in_any_tile() -> None:
    outputs, (queries, targets) = head(torch.bfloat16), cases(1, torch.bfloat16)
    outputs[9000, 3], outputs[16000, 7] = torch.inf, torch.nan

    def refused() -> None:
        with pytest.raises(NonFiniteError, match=r"outputs\[9000, 3\] is inf.*\(2 of 8388608 are"):
            mk.retrieval(queries, outputs, targets)

    assert extra_bytes(refused, "cpu") < 2.5 * TILE


def test_parts_of_a_half_precision_gradient_are_those_of_float32() -> None:
    """Over more parts of the outputs, and tiles within them, than one."""
    case = Case.random(1500, 2**12, 300, dtype=torch.bfloat16)

    def gradient(outputs: Tensor, queries: Tensor) -> Tensor:
        given = outputs.clone().requires_grad_()
        (result,) = torch.autograd.grad(mk.softmax_loss(queries, given, case.targets), given)
        return result

    ours = gradient(case.outputs, case.queries)
    expected = gradient(case.outputs.float(), case.queries.float())
    torch.testing.assert_close(ours.float(), expected, rtol=2**-8, atol=1e-7)


RESIDENT = """
import resource
import torch
from memsolve_kernels import retrieval, softmax_loss

def run(outputs):
    queries = torch.ones(1, 512, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.zeros(1, dtype=torch.int64)
    softmax_loss(queries, outputs, targets).backward()
    retrieval(queries.detach(), outputs, targets)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

run(torch.zeros(4096, 512, dtype=torch.bfloat16))
outputs = torch.zeros(100_000, 512, dtype=torch.bfloat16).fill_(0.01)  # 102 MB
before = peak()
run(outputs)
print((peak() - before) * (1 if __import__("sys").platform == "darwin" else 1024))
"""


def test_the_process_grows_by_tiles_too() -> None:
    """The heap may keep what torch has freed: counted by the system, in a process of its own."""
    pytest.importorskip("resource")
    printed = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, check=True)
    assert int(printed.stdout) < 32 * 2**20
