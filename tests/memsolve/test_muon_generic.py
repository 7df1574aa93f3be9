"""What torch tests of every optimizer, tested of Muon: copies, hooks, scaler, schedulers."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from memsolve.optim import Muon

DATA = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))


def model_and_optimizer() -> tuple[nn.Linear, Muon]:
    model = nn.Linear(5, 3, bias=False)
    return model, Muon(model.parameters(), lr=0.1, weight_decay=0.1)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> Tensor:
    for _ in range(count):
        optimizer.zero_grad()
        model(DATA).square().mean().backward()
        optimizer.step()
    return next(model.parameters()).detach()


def by_pickle(both: tuple[nn.Linear, Muon]) -> tuple[nn.Linear, Muon]:
    copied: tuple[nn.Linear, Muon] = pickle.loads(pickle.dumps(both))
    return copied


@pytest.mark.parametrize("duplicate", [copy.deepcopy, by_pickle])
def test_a_copy_with_its_model_goes_on_alike(
    duplicate: Callable[[tuple[nn.Linear, Muon]], tuple[nn.Linear, Muon]],
) -> None:
    model, optimizer = model_and_optimizer()
    start = steps(model, optimizer, 2).clone()
    other_model, other = duplicate((model, optimizer))
    end = steps(other_model, other, 3)
    assert torch.equal(steps(model, optimizer, 0), start)
    assert torch.equal(steps(model, optimizer, 3), end)
    assert other.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_hooks_run_around_a_step() -> None:
    model, optimizer = model_and_optimizer()
    calls: list[str] = []
    before = optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    steps(model, optimizer, 1)
    before.remove()
    steps(model, optimizer, 1)
    assert calls == ["before", "after", "after"]


def test_a_scaler_unscales_and_skips_gradients_that_overflow() -> None:
    model, optimizer = model_and_optimizer()
    unscaled_model, unscaled = copy.deepcopy((model, optimizer))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer.zero_grad()
    scaler.scale(model(DATA).square().mean()).backward()
    scaler.step(optimizer)
    scaler.update()
    after = model.weight.detach().clone()
    torch.testing.assert_close(after, steps(unscaled_model, unscaled, 1))
    model.weight.grad = torch.full_like(model.weight, torch.inf)
    scaler.scale(torch.zeros(()))
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(model.weight, after)
    assert scaler.get_scale() == 2.0**9


def test_schedulers_set_the_rate_of_the_next_step() -> None:
    model, optimizer = model_and_optimizer()
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=1),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
        ],
        milestones=[1],
    )
    lrs = []
    for _ in range(2):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.param_groups[0]["weight_decay"] = 0.0
        start = model.weight.detach().clone()
        change = steps(model, optimizer, 1) - start
        values = torch.linalg.svdvals(change)
        torch.testing.assert_close(values, torch.full_like(values, lrs[-1]))
        scheduler.step()
    assert lrs == [0.05, 0.1]


def test_frozen_parameters_keep_no_state() -> None:
    model, optimizer = model_and_optimizer()
    frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    optimizer.add_param_group({"params": [frozen]})
    steps(model, optimizer, 1)
    assert set(optimizer.state) == {model.weight}
    assert torch.equal(frozen, torch.ones(2, 2))
