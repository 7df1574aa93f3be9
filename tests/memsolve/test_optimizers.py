"""Optimizers by name."""

import pytest
import torch

from memsolve import AssociativeMemory, InputError
from memsolve.engine import Grid
from memsolve.engine.prepare import prepare
from memsolve.objective import Objective
from memsolve.optim import Muon, Newton
from memsolve.optimizers.registry import resolve
from memsolve.training import step_from_zero


def build(name: str) -> torch.optim.Optimizer:
    memory = AssociativeMemory(20, 4, 1.5, seed=0)
    weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.float64))
    return resolve([name])[name]([weight], Objective(memory, memory.population()))


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
    ],
)
def test_bad_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve([name])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch.optim.AdamW:speed=1", "cannot be used: .*speed"),
        ("torch.optim.AdamW:lr=-1", "cannot be used: .*learning rate"),
        ("torch.optim.SGD:lr=inf", "cannot be used"),
        ("muon:schedule=mystery", "schedule is 'mystery'; expected one of"),
        ("muon:schedule=muon:lower=0.1", "exclude each other"),
        ("muon:steps=3", "steps needs a schedule"),
        ("muon:damping=2", "damping is not a setting of muon here"),
        ("muon:backend=nope", "backend is 'nope'"),
        ("newton:damping=-1", "damping is -1"),
    ],
)
def test_what_cannot_step_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"optimizer '{name}' .*{message}"):
        prepare(Grid([name]))


def test_a_step_to_infinity_is_refused() -> None:
    class Diverging(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            for param in self.param_groups[0]["params"]:
                param.data.fill_(torch.inf)

    with pytest.raises(InputError, match="'far' cannot be used: its step made NaN or infinity"):
        prepare(Grid({"far": Diverging}))


def test_repeated_names_and_a_bare_string_are_refused() -> None:
    with pytest.raises(InputError, match="'sgd' is named twice"):
        resolve(["sgd", "sgd"])
    with pytest.raises(InputError, match="expected a list"):
        resolve("sgd")
    with pytest.raises(InputError, match="optimizers is empty"):
        resolve([])
    with pytest.raises(InputError, match="'x' is 3; expected a name, a class"):
        resolve({"x": 3})  # type: ignore[dict-item]


def test_a_closure_is_given_to_what_needs_one() -> None:
    assert not prepare(Grid(["torch.optim.LBFGS"])).refused


def test_the_step_leaves_the_gradient_alone() -> None:
    memory = AssociativeMemory(20, 4, 1.5, seed=0)
    objective = Objective(memory, memory.population())
    gradient = memory.gradient_at_zero(memory.population())
    sgd = resolve({"s": lambda params: torch.optim.SGD(params, lr=0.5, weight_decay=0.1)})["s"]
    weight = step_from_zero(objective, sgd)
    assert torch.equal(objective.gradient_at_zero(), gradient)
    torch.testing.assert_close(weight, -0.5 * gradient)
