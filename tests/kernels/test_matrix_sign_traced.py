"""The matrix sign where it is only traced: compiled, exported, mapped and without values."""

from typing import Any

import pytest
import torch
from memsolve_kernels import matrix_sign
from memsolve_kernels.errors import NonFiniteError, RangeError
from memsolve_kernels.matrix_sign import minimax
from memsolve_kernels.matrix_sign.ops import flatten, traced_sign
from memsolve_kernels.matrix_sign.settings import Settings
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own

BATCH = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
SCHEDULE = minimax(1e-3)
SETTINGS: list[dict[str, Any]] = [
    {},
    {"damping": 0.1},
    {"schedule": "muon", "dtype": torch.bfloat16},
    {"schedule": SCHEDULE, "damping": 0.1},
    {"steps": 3, "precision": "ieee", "backend": "torch"},
    {"backend": "reference"},
]


class Sign(torch.nn.Module):
    def forward(self, matrix: Tensor) -> Tensor:
        return matrix_sign(matrix, schedule=SCHEDULE)


@pytest.mark.parametrize("settings", SETTINGS)
def test_compiles_without_a_break_to_the_same_numbers(settings: dict[str, Any]) -> None:
    torch.compiler.reset()

    def twice(matrix: Tensor) -> Tensor:
        return 2 * matrix_sign(matrix, **settings)

    compiled = torch.compile(twice, backend="aot_eager", fullgraph=True)
    for matrix in (BATCH, BATCH[0], BATCH.mT, BATCH[:0]):
        assert torch.equal(compiled(matrix), twice(matrix))
        assert compiled(matrix).stride() == twice(matrix).stride()


def test_compiled_it_still_refuses() -> None:
    torch.compiler.reset()
    compiled = torch.compile(matrix_sign, backend="eager")
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        compiled(torch.full((2, 2), torch.nan))
    with pytest.raises(RangeError, match="'moun'"):
        compiled(BATCH, schedule="moun")
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("strict", [False, True])
def test_is_exported_with_its_schedule_for_any_batch(strict: bool) -> None:
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(Sign(), (BATCH,), dynamic_shapes=shapes, strict=strict)
    longer = torch.cat([BATCH, -BATCH])
    assert torch.equal(program.module()(longer), Sign()(longer))


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_vmap_takes_the_mapped_matrices_as_one_batch(dim: int) -> None:
    mapped = torch.func.vmap(matrix_sign, in_dims=dim)(BATCH)
    torch.testing.assert_close(mapped, matrix_sign(BATCH.movedim(dim, 0)))


def test_vmap_of_vmap() -> None:
    stacked = torch.stack([BATCH, -BATCH], dim=-1)
    mapped = torch.func.vmap(torch.func.vmap(matrix_sign, in_dims=-1))(stacked)
    torch.testing.assert_close(mapped, torch.stack([matrix_sign(BATCH), matrix_sign(-BATCH)], 1))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("dim", [0, -1])
def test_vmap_takes_every_setting(settings: dict[str, Any], dim: int) -> None:
    mapped = torch.func.vmap(lambda matrix: matrix_sign(matrix, **settings), in_dims=dim)(BATCH)
    assert torch.equal(mapped, matrix_sign(BATCH.movedim(dim, 0).contiguous(), **settings))


def total(matrix: Tensor) -> Tensor:
    return matrix_sign(matrix, 0.1).pow(3).sum()


def test_compiled_its_gradient_is_that_without() -> None:
    torch.compiler.reset()

    def product(matrix: Tensor) -> Tensor:
        return (matrix * matrix_sign(matrix, 0.1)).sum()

    gradients = []
    for run in (product, torch.compile(product, backend="aot_eager", fullgraph=True)):
        leaf = BATCH.clone().requires_grad_()
        run(leaf).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_a_compiled_derivative_of_torch_func_breaks_the_graph() -> None:
    derivative = torch.func.grad(total)
    torch.compiler.reset()
    torch.testing.assert_close(
        torch.compile(derivative, backend="aot_eager")(BATCH), derivative(BATCH)
    )
    torch.compiler.reset()
    with pytest.raises(Exception, match=r"inside torch\.compile is not supported"):
        torch.compile(derivative, backend="aot_eager", fullgraph=True)(BATCH)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_detached_is_a_constant_to_every_transform(compiled: bool) -> None:
    torch.compiler.reset()

    def around(matrix: Tensor) -> Tensor:
        return matrix * matrix_sign(matrix.detach())

    def forward(matrix: Tensor) -> Tensor:
        tangent: Tensor = torch.func.jvp(around, (matrix,), (torch.ones_like(matrix),))[1]
        return tangent

    for derivative in (torch.func.grad(lambda matrix: around(matrix).sum()), forward):
        run = torch.compile(derivative, backend="eager", fullgraph=True) if compiled else derivative
        assert torch.equal(run(BATCH), matrix_sign(BATCH))


@pytest.mark.parametrize("device", ["cpu", "cuda", "meta"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_has_a_shape_without_values_on_any_device(dtype: torch.dtype, device: str) -> None:
    with FakeTensorMode():
        matrix = torch.empty(5, 4, 3, dtype=dtype, device=device).permute(2, 1, 0)
        sign = matrix_sign(matrix, schedule="muon")
    assert (sign.shape, sign.dtype, sign.device) == (matrix.shape, dtype, matrix.device)
    assert sign.is_contiguous()


def test_compiles_and_is_exported_for_a_gpu_without_one() -> None:
    torch.compiler.reset()
    with FakeTensorMode():
        matrix = torch.empty(3, 5, 4, device="cuda")
        assert torch.compile(Sign(), backend="aot_eager", fullgraph=True)(matrix).is_cuda
        assert torch.export.export(Sign(), (matrix,)).module()(matrix).is_cuda


def test_the_operator_is_what_torch_expects_of_one() -> None:
    settings = Settings(BATCH.dtype, torch.float64, 0.1, 3, SCHEDULE, None, "torch")
    torch.library.opcheck(traced_sign, (BATCH.mT, *flatten(settings)))
