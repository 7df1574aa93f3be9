"""Tracked numbers are the same at every run, and asv's direction is right."""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import compiled
from bench.quantities import OPTIMIZERS, quantities
from bench.registry import Unsupported, lookup
from bench.tracked.capacity import Capacity
from bench.tracked.speed import Speed

FALLING = {"recovered": "weights_per_item", "saturation_batch_size": "weights_per_drawn_item"}


def test_the_numbers_do_not_depend_on_threads_or_on_the_run() -> None:
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(quantities((8, 16), 1))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert repr(found[0]) == repr(found[1])  # NaN included
    assert tuple(found[0]) == OPTIMIZERS


def test_beside_each_number_stands_one_that_falls() -> None:
    found = quantities((8, 16), 1)
    for name, other in FALLING.items():
        known = [found[optimizer] for optimizer in OPTIMIZERS]
        rising = sorted(known, key=lambda numbers: numbers[name])
        falling = [numbers[other] for numbers in rising if numbers[name] > 0]
        assert falling == sorted(falling, reverse=True)
    muon = found["muon"]
    assert muon["capacity_exponent"] + muon["capacity_shortfall"] == pytest.approx(2)


def test_every_quantity_is_tracked_with_unit_and_version() -> None:
    numbers = quantities((8, 16), 1)
    tracked = [name for name in vars(Capacity) if name.startswith("track_")]
    assert {name.removeprefix("track_") for name in tracked} == set(numbers["muon"])
    for name in tracked:
        track = getattr(Capacity, name)
        assert track.unit
        assert track.version == "1"
        value = track(Capacity(), numbers, "muon")
        assert isinstance(value, float)


def lacking(path: str) -> object:
    raise Unsupported(f"{path} is not in this commit")


def test_a_wrong_result_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(path: str) -> object:
        function = lookup(path)
        return lambda *given, **options: (0, 2 * function(*given, **options)[1])

    monkeypatch.setattr("bench.cases.softmax.lookup", twice)
    gradient = next(name for name in Speed.params if name.startswith("softmax_gradient"))
    with pytest.raises(RuntimeError, match="relative error"):
        Speed().setup(gradient)


def test_seconds_are_by_item() -> None:
    speed = Speed()
    gradient = next(name for name in Speed.params if name.startswith("softmax_gradient"))
    speed.setup(gradient)
    assert 0 < speed.track_seconds_per_item(gradient) < math.inf
    assert vars(Speed)["track_seconds_per_item"].unit == "seconds/item"


def test_labels_name_every_variant_of_the_working_tree() -> None:
    assert compiled.labels()
    assert compiled.labels() == tuple(compiled.names())
    assert len(set(compiled.labels())) == len(compiled.labels())


@pytest.mark.parametrize("counts", [True, False])
def test_every_variant_has_its_own_metrics(counts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By packages that count the main loop, and by those before, that do not."""
    package = "memsolve_kernels.compiled"
    asked = (f"{package}:everywhere", f"{package}:profile")

    def read(variant: Any, arch: int) -> Any:
        found = SimpleNamespace(registers=arch, stack=len(variant.name), shared=0, tensor=0)
        if counts:
            found.loop = SimpleNamespace(code=7, cycles={"issue": 5.0, "shared": 3.0}, serial=9.0)
        return found

    def everywhere(*given: Any) -> Iterator[tuple[int, Any, Any]]:
        for arch in given[-1]:
            for variant in lookup(f"{package}:variants")(arch):
                yield arch, variant, read(variant, arch)

    def substituted(path: str) -> Any:
        if path in asked:
            return everywhere if counts else lacking(path)
        return everywhere if path == f"{package}:all_resources" else lookup(path)

    monkeypatch.setattr("bench.compiled.lookup", substituted)
    found = compiled.compiled()
    assert tuple(found) == compiled.labels()
    for label, metrics in found.items():
        variant, _, arch = label.rpartition(" sm_")
        assert (metrics["registers"], metrics["stack"]) == (int(arch), len(variant))
        assert metrics["shared"] == 0  # bytes, not the cycles of that name
        loop = {name: metrics[name] for name in ("code", "issue", "serial") if name in metrics}
        assert loop == ({"code": 7, "issue": 5.0, "serial": 9.0} if counts else {})
    assert tuple(compiled.compiled([90])) == tuple(name for name in found if "sm_90" in name)
