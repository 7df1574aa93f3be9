"""The matrix-sign kernels against their definitions: on a GPU, or in Triton's interpreter.

Without a GPU this file runs in a process of its own, which test_interpreted.py starts:
the interpreter is chosen before the kernels are defined. `tensor_cores` gives it a GPU's products
and bfloat16.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from memsolve_kernels import architectures, matrix_sign
from memsolve_kernels.dispatch import BackendName, Precision
from memsolve_kernels.errors import BackendError, NonFiniteError
from memsolve_kernels.matrix_sign import STOCK, Schedule, certify, minimax, newton_schulz, scaling
from torch import Tensor

from tests.kernels.matrix_sign_cases import relative_error, spectral_norm, with_spectrum

GPU = torch.cuda.is_available()
if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU or Triton's interpreter", allow_module_level=True)

from memsolve_kernels import tuning  # noqa: E402
from memsolve_kernels.dispatch import architecture  # noqa: E402
from memsolve_kernels.matrix_sign.presets import TABLE, Kind, TileConfig, input_precision  # noqa: E402
from memsolve_kernels.matrix_sign.product_benchmark import ProductBenchmark  # noqa: E402
from memsolve_kernels.matrix_sign.torch_backend import TorchBackend  # noqa: E402
from memsolve_kernels.matrix_sign.triton_backend import (  # noqa: E402
    KernelProducts,
    TritonBackend,
)
from memsolve_kernels.matrix_sign.triton_kernels import symmetric, update  # noqa: E402

pytestmark = pytest.mark.filterwarnings(  # Triton 3.6's, in the interpreter
    "ignore:Conversion of an array:DeprecationWarning"
)
DEVICE = "cuda" if GPU else "cpu"
HALVES = [torch.float16, torch.bfloat16]
PRECISIONS: list[Precision] = ["ieee", "tf32x3", "tf32"] if GPU else ["ieee"]
SMALL = TileConfig(16, 16, 16, 2, warps=4, stages=2)  # many tiles from small matrices
SIZES = [  # rows, columns, rows of tiles in a group, width of a tile
    *((1, 1, 8, 16), (16, 16, 8, 16), (33, 20, 1, 16), (52, 20, 2, 16), (52, 20, 3, 16)),
    *((5, 7, 8, 32), (33, 20, 1, 32), (52, 20, 2, 32)),
]


@pytest.fixture(autouse=True)
def interpreter_computes_as_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if not GPU:
        from tests.kernels import tensor_cores  # needs ml-dtypes, which a GPU's machine may lack

        tensor_cores.install(monkeypatch)


@pytest.fixture(autouse=True)
def uninitialized_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def integers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randint(-3, 4, shape, device=DEVICE).to(dtype)


@pytest.mark.parametrize(("m", "n", "group", "columns"), SIZES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_integers_multiply_exactly(
    m: int, n: int, group: int, columns: int, precision: Precision
) -> None:
    tile = SMALL._replace(group=group, columns=columns)
    X = integers(2, m, n)
    A = symmetric.symmetric(X, X, 1.0, None, 0.0, tile, precision)
    assert torch.equal(A.double(), X.double() @ X.double().mT)
    small = A.remainder(7)  # symmetric, and small enough for exact squares in tf32
    square = symmetric.symmetric(small, small, 2.0, small, -3.0, tile, precision)
    assert torch.equal(square.double(), 2 * small.double() @ small.double() - 3 * small.double())
    updated = update.update(X, small, 5.0, tile, precision)
    assert torch.equal(updated.double(), 5 * X.double() + small.double() @ X.double())


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *itertools.product(["half"], HALVES),
        *((kind, torch.float32) for kind in TABLE if kind != "half"),
    ],
)
def test_every_preset_multiplies_integers_exactly_and_rounds_once(
    kind: Kind, dtype: torch.dtype
) -> None:
    X, B = integers(1, 140, 200, dtype=dtype), 21 * integers(1, 140, 140, dtype=dtype)
    gram = (X.double() @ X.double().mT).to(dtype)
    moved = (2 * X.double() + B.double() @ X.double()).to(dtype)
    for preset in {policy[:2] for policy in TABLE[kind].values()}:
        A = symmetric.symmetric(X, X, 1.0, None, 0.0, preset[0], input_precision(kind))
        assert torch.equal(A, gram)
        assert torch.equal(update.update(X, B, 2.0, preset[1], input_precision(kind)), moved)


@pytest.mark.skipif(GPU, reason="it takes its own presets")
@pytest.mark.parametrize(
    ("arch", "damping", "columns"),
    [
        *itertools.product([80, 90, 100], [0.0, 0.1], [0]),
        (80, 0.1, 20),
        (90, 0.1, 20),
        (100, 0.0, 20),
    ],
)
def test_bfloat16_in_every_preset(
    arch: int, damping: float, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest matrix that goes through all steps in one launch, and one that is too wide."""
    monkeypatch.setattr(architectures, "INTERPRETED", architectures.COMPILED[arch])
    side = TABLE["half"][arch].batched_to
    matrix = with_spectrum(torch.linspace(0.2, 1, side), (side, side + columns)).to(torch.bfloat16)
    check_sign(matrix, damping, replace(minimax(0.02, 1e-2), wide_steps=0))


def check_sign(matrix: Tensor, damping: float, schedule: Schedule | None = None) -> None:
    """It errs at most twice as much as torch's products in the same dtype, or by its rounding."""
    truth = matrix_sign(matrix.double(), damping, backend="reference")
    ours = matrix_sign(matrix, damping, backend="triton", schedule=schedule)
    peer = matrix_sign(matrix, damping, backend="torch", schedule=schedule)
    bound = max(2 * relative_error(peer, truth), 4 * torch.finfo(matrix.dtype).eps)
    assert relative_error(ours, truth) <= bound


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("columns", [16, 32])
def test_symmetric_product_is_symmetric_bit_by_bit_and_no_less_exact(
    columns: int, dtype: torch.dtype
) -> None:
    tile = SMALL._replace(columns=columns)
    X = torch.randn(2, 40, 36, device=DEVICE).to(dtype)
    A = symmetric.symmetric(X, X, 0.3, None, 0.0, tile, "ieee")
    assert torch.equal(A, A.mT)
    truth = 0.3 * X.double() @ X.double().mT
    bound = 2 * relative_error(TorchBackend().symmetric(X, X, 0.3), truth)
    assert relative_error(A, truth) <= max(bound, torch.finfo(dtype).eps)
    commuting = symmetric.symmetric(A, A, 1.0, A, 0.5, tile, "ieee")
    assert torch.equal(commuting, commuting.mT)


@pytest.mark.parametrize(
    ("dtype", "damping", "shape"),
    [
        *itertools.product([torch.float32, *HALVES], [0.0, 0.01], [(20, 20)]),
        *zip(
            [torch.float32, *HALVES] * 2,
            [0.0] * 3 + [0.01] * 3,
            [(9, 31), (31, 9), (2, 2, 5, 4), (31, 9), (16, 64), (9, 31)],
            strict=True,
        ),
    ],
)
def test_one_launch_iterates_like_separate_products(
    dtype: torch.dtype, damping: float, shape: tuple[int, ...]
) -> None:
    check_sign(torch.randn(shape, device=DEVICE).to(dtype), damping)


@pytest.mark.parametrize("damping", [0.0, 0.01])
def test_products_beyond_one_launch(damping: float) -> None:
    matrix = torch.randn(70, 140, device=DEVICE)
    schedule = minimax(0.02, 1e-6)
    truth = matrix_sign(matrix.double(), damping, backend="reference")
    sign = matrix_sign(matrix, damping, schedule=schedule, backend="triton")
    assert relative_error(sign, truth) < 1e-5


@pytest.mark.parametrize(
    ("dtype", "damping", "bound"),
    [(torch.float32, 1e-4, 1e-4), (torch.float16, 4e-3, 2e-2), (torch.bfloat16, 3e-2, 1e-1)],
)
def test_damped_accuracy(dtype: torch.dtype, damping: float, bound: float) -> None:
    """At four eps in half precision: below one eps the bound of the dtype acts instead."""
    for values in (
        torch.arange(1, 129 if GPU else 71, dtype=torch.float64) ** -2,
        torch.logspace(0, -7, 60, dtype=torch.float64),
    ):
        matrix = with_spectrum(values, (len(values), len(values))).to(DEVICE, dtype)
        truth = matrix_sign(matrix.double(), damping, backend="reference")
        assert relative_error(matrix_sign(matrix, damping, backend="triton"), truth) < bound


def test_polar_factor_resolves_its_lower_bound() -> None:
    matrix = with_spectrum(torch.logspace(0, -6, 60, dtype=torch.float64), (60, 60))
    sign = matrix_sign(matrix.to(DEVICE, torch.float32), backend="triton").double().cpu()
    assert spectral_norm(sign @ sign.T - torch.eye(60)) < 1e-3


@pytest.mark.parametrize(
    ("dtype", "shape", "damping"),
    [
        *itertools.product([torch.float32, *HALVES], [(12, 20)], [0.0, 0.1]),
        *((dtype, (70, 70), 0.1) for dtype in (torch.float32, *HALVES)),
        (torch.float16, (70, 70), 0.0),
    ],
)
def test_a_batch_gives_the_bits_of_each_matrix_alone(
    dtype: torch.dtype, shape: tuple[int, int], damping: float
) -> None:
    schedule = minimax(0.01).take(2)
    batch = torch.randn(2, *shape, device=DEVICE).to(dtype)
    signs = matrix_sign(batch, damping, schedule=schedule, backend="triton")
    alone = matrix_sign(batch[-1], damping, schedule=schedule, backend="triton")
    assert torch.equal(alone, signs[-1])


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        *itertools.product([torch.float32, torch.bfloat16], [1e-38, 1e38]),
        (torch.float16, 1e-6),
        (torch.float16, 6e4),
    ],
)
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_scaling_in_the_kernel_neither_overflows_nor_vanishes(
    dtype: torch.dtype, scale: float, damping: float
) -> None:
    matrix = (torch.eye(20, device=DEVICE, dtype=torch.float64) * scale).to(dtype)
    schedule = minimax(0.02, 1e-3)
    size = damping * float(matrix.max())
    truth = matrix_sign(matrix.double(), size, backend="reference")
    sign = matrix_sign(matrix, size, schedule=schedule, backend="triton")
    assert relative_error(sign, truth) < 8 * torch.finfo(dtype).eps + 1e-3


@pytest.mark.parametrize("schedule", [None, "polar-express"])
def test_nan_is_an_error_or_stays_nan(schedule: str | None) -> None:
    matrix = torch.full((3, 3), torch.nan, device=DEVICE)
    if GPU:
        assert matrix_sign(matrix, schedule=schedule, backend="triton").isnan().all()
    else:
        with pytest.raises(NonFiniteError, match="NaN"):
            matrix_sign(matrix, schedule=schedule, backend="triton")


@pytest.mark.parametrize("shape", [(1, 1), (40, 40)])
def test_zero_gives_zero(shape: tuple[int, int]) -> None:
    zero = torch.zeros(shape, device=DEVICE)
    assert torch.equal(matrix_sign(zero, 0.1, backend="triton"), zero)
    assert torch.equal(matrix_sign(zero, backend="triton"), zero)


def test_certificate_of_the_kernels() -> None:
    matrix = torch.randn(20, 30, device=DEVICE)
    for residual in certify(matrix, 0.1, backend="triton")[1:]:
        assert residual.max() < 1e-5


@pytest.mark.parametrize("dtype", HALVES)
def test_steps_without_a_rest_after_the_wide_ones(dtype: torch.dtype) -> None:
    matrix = torch.randn(8, 8, device=DEVICE).to(dtype)
    for damping in (0.0, 0.1):
        one = matrix_sign(matrix, damping, steps=1, backend="triton")
        torch.testing.assert_close(one, matrix_sign(matrix, damping, steps=1, backend="torch"))


def test_float64_has_no_kernel() -> None:
    with pytest.raises(BackendError, match="no kernel"):
        matrix_sign(torch.eye(2, device=DEVICE, dtype=torch.float64), backend="triton")


class Timer:
    """Milliseconds without a clock: given ones for the kernels, and one for BLAS."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **kernels: float) -> None:
        self.launched: list[str] = []
        self.calls = 0
        self._kernels = kernels
        for module, name in ((symmetric, "symmetric"), (update, "update")):
            monkeypatch.setattr(module, name, self._watched(name, getattr(module, name)))
        monkeypatch.setattr(tuning, "_selected", {})
        monkeypatch.setattr("triton.testing.do_bench", self)

    def __call__(self, call: Callable[[], object]) -> float:
        call()
        self.calls += 1
        self.launched.clear()
        call()
        return self._kernels[self.launched[0]] if self.launched else 1.0

    def _watched(self, name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def watched(*arguments: object) -> Tensor:
            self.launched.append(name)
            return function(*arguments)

        return watched


def kernels_or_blas(precision: Precision) -> TritonBackend:
    return TritonBackend(kernels(precision), everywhere=False)


def kernels(precision: Precision) -> KernelProducts:
    row = architecture(torch.device(DEVICE))
    assert row is not None
    return KernelProducts(row.preset_arch, precision)


def test_presets_and_measurement_decide_who_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(monkeypatch, symmetric=0.5, update=2.0)
    X = torch.randn(1, 20, 20, device=DEVICE)
    pair = scaling.normalise(X, 0.0, torch.float32)[0]

    def one_step() -> list[str]:
        timer.launched.clear()
        products = kernels_or_blas("ieee")
        newton_schulz.iterate(pair, STOCK["muon"].take(1), products, torch.float32)
        return list(timer.launched)

    assert one_step() == []  # by the preset, BLAS multiplies ieee float32
    with tuning.tuning():
        one_step()
    assert one_step() == ["symmetric", "symmetric"]
    assert timer.calls == 4


def test_a_wrong_kernel_loses_however_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    right = update.update
    monkeypatch.setattr(update, "update", lambda *args: right(*args) * (1 + 1e-5))
    timer = Timer(monkeypatch, symmetric=0.5, update=0.5)
    X = torch.randn(1, 20, 24, device=DEVICE)
    products = kernels_or_blas("ieee")
    with tuning.tuning():
        products.update(X, products.symmetric(X, X), 1.0)
    timer.launched.clear()
    products.update(X, products.symmetric(X, X), 1.0)
    assert timer.launched == ["symmetric"]
    kernel_error, blas_error = ProductBenchmark("update", X, kernels("ieee"), TorchBackend()).errors
    assert kernel_error > 2 * blas_error


def test_nothing_is_timed_where_only_one_can_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(monkeypatch, symmetric=0.5, update=0.5)
    X = torch.eye(4, device=DEVICE)[None]
    with tuning.tuning():
        kernels_or_blas("tf32x3").symmetric(X, X)
        assert timer.launched == ["symmetric"]
        kernels_or_blas("ieee").symmetric(X.double(), X.double())
        assert timer.launched == ["symmetric"]
    assert timer.calls == 0


@pytest.mark.skipif(GPU, reason="there is something to time")
def test_nothing_is_timed_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(monkeypatch, symmetric=0.5, update=0.5)
    backends: list[BackendName | None] = ["triton", "torch", None]
    with tuning.tuning():
        for backend in backends:
            matrix_sign(torch.randn(70, 70), backend=backend, steps=1)
    assert timer.calls == 0


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs a GPU")
class TestOnGpu:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("size", [64, 128, 200, 2048])
    @pytest.mark.parametrize("damping", [0.0, 0.1])
    def test_captured_in_a_graph(self, dtype: torch.dtype, size: int, damping: float) -> None:
        schedule = minimax(1e-3, 1e-2)
        matrix = torch.randn(2, size, size, device="cuda").to(dtype)
        eager = matrix_sign(matrix, damping, schedule=schedule)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = matrix_sign(matrix, damping, schedule=schedule)
        graph.replay()
        assert torch.equal(captured, eager)

    @pytest.mark.parametrize("precision", [None, "ieee", "tf32x3"])
    @pytest.mark.parametrize("size", [64, 300, 1024])
    def test_float32_precisions(self, precision: Precision | None, size: int) -> None:
        values = torch.arange(1, size + 1, dtype=torch.float64) ** -1.5
        matrix = with_spectrum(values, (size, size)).to("cuda", torch.float32)
        truth = matrix_sign(matrix.double(), 1e-4, backend="reference")
        backends: list[BackendName | None] = ["triton", None]
        for backend in backends:
            sign = matrix_sign(matrix, 1e-4, precision=precision, backend=backend)
            assert relative_error(sign, truth) < 1e-4

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("size", [100, 2048])
    def test_repeats_bit_by_bit(self, dtype: torch.dtype, size: int) -> None:
        matrix = torch.randn(2, size, size, device="cuda").to(dtype)
        first = matrix_sign(matrix, 0.1, backend="triton")
        for _ in range(10):
            assert torch.equal(matrix_sign(matrix, 0.1, backend="triton"), first)

    def test_offsets_beyond_32_bits(self) -> None:
        X = integers(3, 32_768, 32, dtype=torch.float16)
        tile = TABLE["half"][90].symmetric
        A = symmetric.symmetric(X, X, 1.0, None, 0.0, tile, "ieee")
        assert A.numel() > 2**31
        last = A[2, -100:, -100:].double()
        assert torch.equal(last, X[2, -100:].double() @ X[2, -100:].double().mT)
        top = A[2, :100, -100:].double()
        assert torch.equal(top, X[2, :100].double() @ X[2, -100:].double().mT)

    def test_many_small_matrices(self) -> None:
        batch = torch.randn(70_000, 16, 16, device="cuda")
        sign = matrix_sign(batch, backend="triton")
        assert torch.equal(sign[-1], matrix_sign(batch[-1], backend="triton"))
