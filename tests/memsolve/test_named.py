"""Optimizers by name."""

import pytest
import torch

from memsolve import AssociativeMemory, InputError
from memsolve.optim import Muon, Newton
from memsolve.optim.inexact import inexact_muon
from memsolve.optim.named import resolve
from memsolve.study.run import StepError, step_from_zero


def build(name: str) -> torch.optim.Optimizer:
    memory = AssociativeMemory(20, 4, 1.5, seed=0)
    weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.float64))
    return resolve([name])[name]([weight], memory, memory.population())


def test_built_in_names() -> None:
    assert isinstance(build("sgd"), torch.optim.SGD)
    assert isinstance(build("muon"), Muon)
    assert isinstance(build("newton"), Newton)


def test_a_class_path_with_settings() -> None:
    optimizer = build("torch.optim.AdamW:lr=0.01:betas=(0.8, 0.9):amsgrad=True")
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["lr"] == 0.01
    assert optimizer.defaults["betas"] == (0.8, 0.9)
    assert optimizer.defaults["amsgrad"] is True


def test_a_plain_word_is_a_string() -> None:
    optimizer = build("torch.optim.Muon:adjust_lr_fn=match_rms_adamw")
    assert optimizer.defaults["adjust_lr_fn"] == "match_rms_adamw"


def test_built_in_names_take_settings() -> None:
    assert build("newton:damping=0.5").defaults["damping"] == 0.5
    stock = build("muon:schedule=muon:steps=7:dtype=bfloat16")
    assert len(stock.defaults["schedule"]) == 7
    assert stock.defaults["dtype"] is torch.bfloat16
    assert build("muon:lower=1e-3").defaults["schedule"].lower == 1e-3


def test_damping_is_relative_and_the_gradient_is_rounded() -> None:
    weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.float64))
    weight.grad = torch.diag(torch.tensor([5.0, 1.0, 1.0, 1 + 2.0**-12], dtype=torch.float64))
    exact = weight.grad.clone()
    optimizer = inexact_muon([weight], relative_damping=0.1, gradient_dtype=torch.bfloat16)
    assert optimizer.defaults["damping"] == pytest.approx(0.5)
    assert torch.equal(weight.grad, exact.bfloat16().double())
    assert not torch.equal(weight.grad, exact)


def test_a_mapping_gives_its_own_labels() -> None:
    builders = resolve({"mine": lambda params: torch.optim.SGD(params, lr=2.0)})
    assert list(builders) == ["mine"]
    assert list(resolve({"stock": "torch.optim.Muon"})) == ["stock"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adam", "optimizer 'adam' is unknown; expected sgd, muon, newton"),
        ("nowhere.Adam", "optimizer 'nowhere.Adam' does not import"),
        ("torch.optim.Adammm", "optimizer 'torch.optim.Adammm' does not import"),
        ("torch.nn.Linear", "expected a torch.optim.Optimizer"),
        ("torch.optim.AdamW:0.01", "'0.01' in optimizer .* expected key=value"),
        ("torch.optim.AdamW:speed=1", "cannot be made: .*speed"),
        ("muon:schedule=mystery", "schedule is 'mystery'; expected one of"),
        ("muon:steps=3", "steps needs a schedule"),
        ("newton:damping=-1", "damping is -1"),
        ("torch.optim.AdamW:lr=-1", "cannot be made: .*learning rate"),
    ],
)
def test_bad_names_are_told(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve([name])


def test_repeated_names_and_a_bare_string_are_told() -> None:
    with pytest.raises(InputError, match="'sgd' is named twice"):
        resolve(["sgd", "sgd"])
    with pytest.raises(InputError, match="expected a list"):
        resolve("sgd")
    with pytest.raises(InputError, match="optimizers is empty"):
        resolve([])


def test_a_failing_step_is_told() -> None:
    memory = AssociativeMemory(20, 4, 1.5, seed=0)
    gradient = torch.ones(4, 4, dtype=torch.float64)
    lbfgs = resolve(["torch.optim.LBFGS"])["torch.optim.LBFGS"]
    with pytest.raises(StepError, match=r"failed in its step: .*closure"):
        step_from_zero(gradient, lbfgs, memory, memory.population())


def test_the_step_leaves_the_gradient_alone() -> None:
    memory = AssociativeMemory(20, 4, 1.5, seed=0)
    gradient = torch.ones(4, 4, dtype=torch.float64)
    sgd = resolve({"s": lambda params: torch.optim.SGD(params, lr=0.5, weight_decay=0.1)})["s"]
    weight = step_from_zero(gradient, sgd, memory, memory.population())
    assert torch.equal(gradient, torch.ones(4, 4, dtype=torch.float64))
    torch.testing.assert_close(weight, -0.5 * gradient)
