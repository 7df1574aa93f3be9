# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
"""Triton's bfloat16 against torch's: on a GPU, or in the interpreter as `tensor_cores` mends it.

Without a GPU this file runs in a process of its own, which test_interpreted.py starts.
"""

import os

import pytest
import torch
from torch import Tensor

GPU = torch.cuda.is_available()
if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU or Triton's interpreter", allow_module_level=True)

import triton  # noqa: E402
import triton.language as tl  # noqa: E402

pytestmark = pytest.mark.filterwarnings(  # Triton 3.6's, in the interpreter
    "ignore:Conversion of an array:DeprecationWarning"
)
DEVICE = "cuda" if GPU else "cpu"
BLOCK = 4096


@pytest.fixture(autouse=True)
def interpreter_computes_as_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if not GPU:
        from tests.kernels import tensor_cores  # needs ml-dtypes, which a GPU's machine may lack

        tensor_cores.install(monkeypatch)


@triton.jit
def copy_kernel(source, target, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + place, tl.load(source + place).to(target.dtype.element_ty))


@triton.jit
def store_kernel(source, target, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + place, tl.load(source + place))


@triton.jit
def arithmetic_kernel(x, y, results, size, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    a = tl.load(x + place, mask=place < size, other=1.5)
    b = tl.load(y + place, mask=place < size, other=0.25)
    tl.store(results + place, a + b)
    tl.store(results + BLOCK + place, a - b)
    tl.store(results + 2 * BLOCK + place, a * b)
    tl.store(results + 3 * BLOCK + place, -tl.abs(a))
    tl.store(results + 4 * BLOCK + place, tl.where(a < b, b, a))
    tl.store(results + 5 * BLOCK + place, tl.minimum(a, b))
    scale = tl.full((BLOCK,), 1 / 3, x.dtype.element_ty)
    tl.store(results + 6 * BLOCK + place, a * scale)


@triton.jit
def reduce_kernel(x, results, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.arange(0, ROWS)
    block = tl.load(x + row[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :])
    tl.store(results + row, tl.sum(block, 1))
    tl.store(results + ROWS + row, tl.max(block, 1))
    tl.store(results + 2 * ROWS + row, tl.min(block, 1))
    tl.store(results + 3 * ROWS + row, tl.sum(tl.sum(block, 1, keep_dims=True), None))


@triton.jit
def dot_kernel(x, y, product, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    total = tl.dot(tl.load(x + place), tl.load(y + place), tl.load(product + place))
    tl.store(product + place, total)


def converted(values: Tensor, dtype: torch.dtype, kernel=copy_kernel) -> Tensor:
    """Float values, a multiple of BLOCK of them, in another dtype by a kernel."""
    target = torch.empty(len(values), dtype=dtype, device=DEVICE)
    kernel[(len(values) // BLOCK,)](values.to(DEVICE), target, BLOCK=BLOCK)
    return target.cpu()


def assert_same_bits(value: Tensor, truth: Tensor) -> None:
    """Bit by bit, signs of zero included, but for which NaN it is."""
    word = {2: torch.int16, 4: torch.int32}[truth.element_size()]
    assert torch.equal(value.isnan(), truth.isnan())
    number = ~truth.isnan()
    assert torch.equal(value.view(word)[number], truth.view(word)[number])


def every_bfloat16() -> Tensor:
    return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16)


def float32_around_every_bfloat16() -> Tensor:
    """Each bfloat16, the tie with the next, their neighbours in float32, and random bits."""
    exact = every_bfloat16().float().view(torch.int32)
    neighbours = [exact + step for step in (0, 1, 2**15 - 1, 2**15, 2**15 + 1, 2**16 - 1)]
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (2**16,), generator=generator).int()
    return torch.cat([*neighbours, bits]).view(torch.float32)


def test_every_bfloat16_is_exact_in_float32() -> None:
    assert_same_bits(converted(every_bfloat16(), torch.float32), every_bfloat16().float())


@pytest.mark.parametrize("kernel", [copy_kernel, store_kernel])
def test_float32_goes_to_the_nearest_bfloat16_and_ties_to_even(kernel) -> None:
    values = float32_around_every_bfloat16()
    rounded = converted(values, torch.bfloat16, kernel)
    assert_same_bits(rounded, values.bfloat16())
    assert rounded[values.isfinite()].isinf().any()  # beyond the largest: overflow is among them


def test_loads_and_stores_keep_every_bit() -> None:
    every = every_bfloat16()
    assert torch.equal(
        converted(every, torch.bfloat16, store_kernel).view(torch.int16), every.view(torch.int16)
    )


def test_arithmetic_rounds_once_as_torch_does() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, BLOCK, generator=generator).bfloat16()
    size = BLOCK - 7
    results = torch.empty(7, BLOCK, dtype=torch.bfloat16, device=DEVICE)
    arithmetic_kernel[(1,)](x.to(DEVICE), y.to(DEVICE), results, size, BLOCK=BLOCK)
    x[size:], y[size:] = 1.5, 0.25
    third = torch.tensor(1 / 3, dtype=torch.bfloat16)
    truth = [x + y, x - y, x * y, -x.abs(), x.maximum(y), x.minimum(y), x * third]
    assert_same_bits(results.cpu(), torch.stack(truth))


def test_reductions() -> None:
    rows, columns = 16, 128
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).bfloat16()
    x[0] = 1  # 256 and more are reached by even steps alone
    results = torch.empty(4, rows, dtype=torch.bfloat16, device=DEVICE)
    reduce_kernel[(1,)](x.to(DEVICE), results, ROWS=rows, COLUMNS=columns)
    sums, highest, lowest, total = results.cpu()
    assert torch.equal(highest, x.amax(1))
    assert torch.equal(lowest, x.amin(1))
    assert sums[0] == columns
    rounding = torch.finfo(torch.bfloat16).eps / 2
    bound = columns * rounding * x.double().abs().sum(1)
    assert torch.all((sums.double() - x.double().sum(1)).abs() <= bound)
    assert abs(float(total[0] - x.double().sum())) <= (columns + rows) * rounding * x.abs().sum()


def test_products_are_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    scales, y = torch.randn(16, generator=generator), torch.randn(16, 16, generator=generator)
    x, y = scales.diag().bfloat16(), y.bfloat16()
    product = torch.zeros(16, 16, device=DEVICE)
    dot_kernel[(1,)](x.to(DEVICE), y.to(DEVICE), product, SIZE=16)
    assert torch.equal(product.cpu().double(), x.double() @ y.double())


def test_sums_of_products_are_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, total = torch.randn(3, 64, 64, generator=generator)
    x, y = x.bfloat16(), y.bfloat16()
    product = total.clone().to(DEVICE)
    dot_kernel[(1,)](x.to(DEVICE), y.to(DEVICE), product, SIZE=64)
    error = product.cpu().double() - (x.double() @ y.double() + total.double())
    sizes = x.double().abs() @ y.double().abs() + total.abs()
    assert torch.all(error.abs() <= 2.0**-19 * sizes)  # float32's, of 64 sums at most, some cut
