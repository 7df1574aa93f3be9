"""No call knows of an earlier one: outputs may be written by ways that no version counts."""

import pickle
from collections.abc import Callable, Iterator

import memsolve_kernels as mk
import pytest
import torch
from memsolve_kernels.softmax.copies import labels
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from tests.kernels.softmax_cases import Case

CASE = Case.random(6, 50, 8, dtype=torch.float32, scale=3.0)


def by_fused_optimizer(head: nn.Linear) -> None:
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.5, fused=True)
    mk.softmax_loss(CASE.queries, head.weight, CASE.targets).backward()
    optimizer.step()


def by_data(head: nn.Linear) -> None:
    head.weight.data.copy_(CASE.outputs)


def by_vector(head: nn.Linear) -> None:
    vector_to_parameters(CASE.outputs.flatten(), head.parameters())


def by_numpy(head: nn.Linear) -> None:
    head.weight.detach().numpy()[:] = CASE.outputs.numpy()


def by_growth(head: nn.Linear) -> None:
    head.weight.data = torch.cat([CASE.outputs, 2 * CASE.outputs])


def by_load(head: nn.Linear) -> None:
    head.weight.data = pickle.loads(pickle.dumps(CASE.outputs))


WRITES = [by_fused_optimizer, by_data, by_vector, by_numpy, by_growth, by_load]


def statistics(outputs: Tensor) -> mk.softmax.Retrieval:
    return mk.retrieval(CASE.queries, outputs.detach(), CASE.targets, backend="torch")


@pytest.mark.parametrize("write", WRITES)
def test_a_head_that_was_looked_at_before_a_write_is_looked_at_anew(
    write: Callable[[nn.Linear], None],
) -> None:
    head = nn.Linear(8, 50, bias=False)
    nn.init.zeros_(head.weight)

    def look() -> tuple[Tensor, ...]:
        statistics = mk.retrieval(CASE.queries, head.weight, CASE.targets, backend="torch")
        with torch.no_grad():
            loss = mk.softmax_loss(CASE.queries, head.weight, CASE.targets, backend="torch")
        return *statistics, loss

    assert not look()[3].any()  # all outputs are copies of each other
    write(head)
    now = look()
    expected = statistics(head.weight.clone())
    assert all(map(torch.equal, now, expected))
    torch.testing.assert_close(now[-1], expected.loss.mean())


@pytest.fixture
def swapping() -> Iterator[None]:
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(before)


@pytest.mark.usefixtures("swapping")
def test_nothing_keeps_a_module_from_swapping_its_tensors() -> None:
    head = nn.Linear(8, 50, bias=False)
    mk.retrieval(CASE.queries, head.weight, CASE.targets, backend="torch")
    assert head.to(torch.float64).weight.dtype == torch.float64


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_copies_are_recognised_at_any_width_and_alignment(dtype: torch.dtype, dim: int) -> None:
    outputs = (3 * Case.random(1, 41, dim, dtype=torch.float64).outputs).to(dtype)[1:]
    targets = torch.tensor([0, 7, 39])
    assert dim < 3 or labels(outputs, targets, torch.float64) is None
    assert labels(outputs[:1], targets[:1], torch.float64) is None
    outputs[5] = outputs[7]
    for given in (outputs, outputs.T.contiguous().T):
        hashes = labels(given, targets, torch.float64)
        assert hashes is not None
        same = hashes[:, None] == labels_of(given)
        assert torch.equal(same, (outputs[targets][:, None] == outputs).all(2))
    shard = labels(outputs, torch.tensor([7, -1, 40]), torch.float64)
    assert shard is not None
    assert (shard[:, None] == labels_of(outputs)).sum(1).tolist()[1:] == [0, 0]


def labels_of(rows: Tensor) -> Tensor:
    every = labels(torch.cat([rows, rows]), torch.arange(len(rows)), torch.float64)
    assert every is not None
    return every


def test_rows_that_begin_alike_are_no_copies() -> None:
    outputs = Case.random(1, 300, 16, dtype=torch.float32).outputs
    outputs[:, :4] = 1
    queries, targets = outputs[:9] * 5, torch.arange(9)
    before = mk.retrieval(queries, outputs, targets, backend="torch")
    assert (before.margin != 0).all()
    outputs[299] = outputs[before.margin.argmax()]
    after = mk.retrieval(queries, outputs, targets, backend="torch")
    assert torch.equal(after.margin == 0, before.margin == before.margin.max())
