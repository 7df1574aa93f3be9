"""Invalid arguments of the softmax functions, and the messages of their errors."""

import re
from typing import Any

import memsolve_kernels as mk
import pytest
import torch
from memsolve_kernels import errors
from torch import Tensor

Q, V, Y = torch.ones(3, 4), torch.ones(5, 4), torch.tensor([0, 1, 4])
SPOILED = Q.index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(torch.nan))
BATCHES, ITEMS = torch.ones(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)  # several dimensions
RAGGED = torch.nested.nested_tensor([Q, Q[:2]], layout=torch.jagged)

WRONG: list[tuple[tuple[Any, ...], type[errors.InputError], str]] = [
    ((Q[0], V, Y), errors.ShapeError, "expected queries (B, d), outputs (N, d) and targets (B,)"),
    ((Q, V[:, :3], Y), errors.ShapeError, "queries (3, 4) and outputs (5, 3)"),
    ((Q, V[:0], Y), errors.ShapeError, "got (0, 4)"),
    ((Q[:, :0], V[:, :0], Y), errors.ShapeError, "got (5, 0)"),
    ((Q, V, Y[:2]), errors.ShapeError, "targets (2,) must hold one item for each of the queries"),
    ((Q, V.double(), Y), errors.DtypeError, "got torch.float32 and torch.float64"),
    ((Q.int(), V.int(), Y), errors.DtypeError, "got torch.int32"),
    ((Q, V, Y.float()), errors.DtypeError, "targets must be one of int64"),
    ((Q, V, Y == 0), errors.DtypeError, "got torch.bool"),
    ((Q, V.to("meta"), Y), errors.DeviceError, "outputs are on meta and queries on cpu"),
    ((Q, V, Y + 1), errors.RangeError, "targets[2] is 5; expected an item in [0, 5)"),
    ((Q, V, Y - 1), errors.RangeError, "targets[0] is -1"),
    ((SPOILED, V, Y), errors.NonFiniteError, "queries[1, 2] is nan"),
    ((Q, V * torch.inf, Y), errors.NonFiniteError, "outputs[0, 0] is inf"),
    ((Q, V, Y.numpy()), errors.DtypeError, "targets has type ndarray; expected a torch.Tensor"),
    ((Q, V, Y.tolist()), errors.DtypeError, "targets has type list; expected a torch.Tensor"),
    ((Q.tolist(), V, Y), errors.DtypeError, "queries has type list"),
    ((Q, V.to_sparse(), Y), errors.DtypeError, "outputs has layout sparse_coo; expected a dense"),
    ((Q.to_mkldnn(), V, Y), errors.DtypeError, "queries has layout _mkldnn"),
    ((Q, V, Y, [1.0, 1.0, 1.0]), errors.DtypeError, "weights has type list"),
    ((Q, V, Y, torch.ones(2)), errors.ShapeError, "weights (2,)"),
    ((Q, V, Y, torch.ones(3).double()), errors.DtypeError, "weights must be torch.float32"),
    ((Q, V, Y, torch.ones(3, device="meta")), errors.DeviceError, "weights are on meta"),
    ((Q, V, Y, torch.full((3,), -torch.inf)), errors.NonFiniteError, "weights[0] is -inf"),
    ((BATCHES, V, ITEMS.view(6)), errors.ShapeError, "queries (2, 3, 4): expected (2, 3)"),
    ((BATCHES, V, ITEMS, torch.ones(6)), errors.ShapeError, "weights (6,) must hold one number"),
    ((BATCHES, V, ITEMS, SPOILED[:2, :3]), errors.NonFiniteError, "weights[1, 2] is nan"),
    ((BATCHES.to_sparse(), V, ITEMS), errors.DtypeError, "queries has layout sparse_coo"),
    ((RAGGED, V, ITEMS), errors.DtypeError, "queries has layout nested"),
]


@pytest.mark.parametrize(("args", "error", "message"), WRONG)
def test_wrong_input_is_named(
    args: tuple[Any, ...], error: type[errors.InputError], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        mk.softmax_loss(*args)
    with pytest.raises(error, match=re.escape(message)):
        mk.softmax_gradient(*args)
    with pytest.raises(error, match=re.escape(message)):
        mk.softmax_hvp(args[0], args[0], *args[1:])
    if len(args) == 3:
        with pytest.raises(error, match=re.escape(message)):
            mk.retrieval(*args)


@pytest.mark.parametrize(
    ("directions", "error", "message"),
    [
        (Q[:2], errors.ShapeError, "directions (2, 4) must have the shape of queries (3, 4)"),
        (Q.double(), errors.DtypeError, "directions must be torch.float32"),
        (Q.to("meta"), errors.DeviceError, "directions are on meta"),
        (SPOILED, errors.NonFiniteError, "directions[1, 2] is nan"),
        (Q.numpy(), errors.DtypeError, "directions has type ndarray"),
        (Q.to_sparse(), errors.DtypeError, "directions has layout sparse_coo"),
    ],
)
def test_wrong_directions_are_named(
    directions: Tensor, error: type[errors.InputError], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        mk.softmax_hvp(Q, directions, V, Y)


def test_large_finite_inputs_are_not_taken_for_infinite() -> None:
    large = torch.full((3, 4), 3e38)
    assert mk.softmax_loss(large, V * 0, Y).isfinite()


@pytest.mark.parametrize("backend", ["cuda", ""])
def test_unknown_backend_is_refused(backend: str) -> None:
    with pytest.raises(errors.BackendError, match="expected None or one of"):
        mk.softmax_loss(Q, V, Y, backend=backend)  # type: ignore[arg-type]


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(errors.BackendError, match="expected None or one of"):
        mk.softmax_loss(Q, V, Y, precision="bf16")  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["torch", "reference", None])
def test_tensor_core_precision_is_never_ignored(backend: mk.dispatch.BackendName | None) -> None:
    with pytest.raises(errors.BackendError, match="needs backend='triton'"):
        mk.softmax_gradient(Q, V, Y, backend=backend, precision="tf32")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ieee_is_refused_where_torch_multiplies_by_less(dtype: torch.dtype) -> None:
    queries, outputs = Q.to(dtype), V.to(dtype)
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "bf16"
        with pytest.raises(errors.BackendError, match="cannot be honoured by backend='torch'"):
            mk.softmax_gradient(queries, outputs, Y, precision="ieee")
        mk.softmax_gradient(Q.double(), V.double(), Y, precision="ieee")  # is not float32
        mk.softmax_gradient(queries, outputs, Y)  # leaves the choice to torch
    finally:
        matmul.fp32_precision = before
    mk.softmax_gradient(queries, outputs, Y, precision="ieee")
