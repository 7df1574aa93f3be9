"""Sweeps: labels, values and errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memsolve import InputError
from memsolve.engine import Grid
from memsolve.optimizers.registry import resolve
from memsolve.optimizers.sweep import parse_sweep, to_words
from memsolve.study.training.grid import TrainingGrid

SGD = "torch.optim.SGD"


def test_every_combination_is_an_optimizer_of_its_own() -> None:
    grid = Grid([SGD], sweep=["momentum=0", "0.9", "nesterov=False"])
    assert grid.labels == [f"{SGD}:momentum={m}:nesterov=False" for m in ("0", "0.9")]
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    built = [build([weight], None) for build in resolve(grid.choices).values()]  # type: ignore[arg-type]
    assert [optimizer.defaults["momentum"] for optimizer in built] == [0, 0.9]
    assert built[0].defaults["nesterov"] is False


def test_a_factory_is_swept_as_a_name_is() -> None:
    grid = Grid({"mine": torch.optim.SGD}, sweep={"momentum": [0.5]})
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    ((label, build),) = resolve(grid.choices).items()
    assert label == "mine:momentum=0.5"
    assert build([weight], None).defaults["momentum"] == 0.5  # type: ignore[arg-type]


def test_the_learning_rates_of_a_study_of_training_are_its_lrs() -> None:
    grid = TrainingGrid([SGD], sweep=["lr=1e-1", "1", "momentum=0", "0.9"])
    assert grid.lrs == [0.1, 1.0]
    assert grid.labels == [f"{SGD}:momentum={m}" for m in ("0", "0.9")]
    assert "--sweep lr=1e-1,1,momentum=0,0.9" in grid.command("dynamics")


keys = st.from_regex("[a-z]{1,5}", fullmatch=True)
values = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)


@given(st.dictionaries(keys, values, max_size=3))
def test_words_and_values_say_the_same(sweep: dict[str, list[int]]) -> None:
    assert parse_sweep(to_words(sweep)) == {
        key: [str(v) for v in values] for key, values in sweep.items()
    }


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (["0.9"], "sweep begins with '0.9'; expected key=value"),
        (["lr=1", "lr=2"], "sweep has 'lr=2'; expected each setting once"),
        (["a b=1"], "sweep has 'a b=1'"),
        (["lr=1", "1"], "sweep of lr is"),
        (["lr="], "sweep of lr holds ''"),
        ({"lr": []}, r"sweep\['lr'\] is \[\]"),
        ("lr=1", "sweep is 'lr=1'; expected values by setting"),
    ],
)
def test_invalid_sweeps_are_refused(sweep: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _ = Grid(["sgd"], sweep=sweep).choices  # type: ignore[arg-type]


def test_invalid_learning_rates_are_refused() -> None:
    with pytest.raises(InputError, match="lrs holds 'fast'"):
        TrainingGrid([SGD], sweep=["lr=fast"])
