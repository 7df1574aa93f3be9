"""Every edit of an optimizer is noticed, and nothing else is."""

import importlib
import json
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from torch import ops

from memsolve.optimizers.identity import Identity, content, identity, origin
from memsolve.optimizers.probe import identify
from tests.memsolve.identity_cases import cases, files

EDITS = cases("identity_edits.txt")
UNRELATED = cases("identity_unrelated.txt")

Find = Callable[..., Identity]


def write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def forget(folder: Path) -> None:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def identify_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Find:
    """The identity of the optimizer of some files, which are imported anew."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def find(texts: dict[str, str], name: str = "") -> Identity:
        folder = tmp_path / "here"
        shutil.rmtree(folder, ignore_errors=True)
        write(folder, texts)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            try:
                return identify(
                    "it", name or importlib.import_module("opt").make, "cpu", torch.float64
                )
            finally:
                forget(folder)

    return find


@pytest.mark.parametrize("case", EDITS)
def test_an_edit_is_noticed(case: str, identify_files: Find) -> None:
    before, again, after = (
        identify_files(files(EDITS[case], edited=e)) for e in (False, False, True)
    )
    assert not before.unknown
    assert before == again != after


@pytest.mark.parametrize("case", UNRELATED)
def test_an_unrelated_change_is_not(case: str, identify_files: Find) -> None:
    before, after = (
        identify_files(files(UNRELATED[case], edited=edited)) for edited in (False, True)
    )
    assert not before.unknown
    assert before == after


SHELL = """
import json, sys
from importlib import import_module
import torch
from memsolve.optimizers.probe import identify

identities = []
for folder in sys.argv[1:]:
    sys.path.insert(0, folder)
    identities.append(identify("it", import_module("opt").make, "cpu", torch.float64))
    del sys.path[0], sys.modules["opt"]
    sys.modules.pop("helpers", None)
print(json.dumps(identities))
"""


def test_a_shell_and_a_folder_make_no_difference(tmp_path: Path, identify_files: Find) -> None:
    """Nor do another day, process, hash seed, time zone, language and current folder."""
    shells = cases("identity_shells.txt")
    here = [identify_files(files(case)) for case in shells.values()]
    assert not any(each.unknown for each in here)
    assert len({str(each.content) for each in here}) == len(shells)
    folders = [tmp_path / "there" / str(number) for number in range(len(shells))]
    for folder, case in zip(folders, shells.values(), strict=True):
        write(folder, files(case))
    py_compile.compile(str(folders[0] / "opt.py"))
    command = [sys.executable, "-W", "error", "-c", SHELL, *map(str, folders)]
    variables = {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": "/", "MORE": "1"}
    done = subprocess.run(
        command, env=os.environ | variables, cwd=folders[1], check=True, capture_output=True
    )
    assert [Identity(*each) for each in json.loads(done.stdout)] == here


def test_a_module_that_is_imported_in_the_step_is_not_imported_before(
    identify_files: Find,
) -> None:
    case = """
class Mine(SGD):
    def step(self, closure=None):
        from pack.inner import scale
        return scale()
# in pack/__init__.py
raise RuntimeError
# in pack/inner.py
import [[first|second]]
"""
    before, after = (identify_files(files(case, edited=edited)) for edited in (False, True))
    assert before != after


def identity_of(make: Any) -> Identity:
    return identity(make, make([torch.nn.Parameter(torch.zeros(2, 2))]))


def nested(depth: int) -> tuple[Any, ...]:
    value: tuple[Any, ...] = ()
    for _ in range(depth):
        value = (value,)
    return value


class Endless:
    """What pickle takes of it is another one."""

    def __reduce__(self) -> Any:
        return Endless, (Endless(),)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ((number for number in range(2)), "an object of builtins.generator"),
        (torch.zeros(2).to_sparse(), "a tensor of layout torch.sparse_coo and dtype torch.float32"),
        (Endless(), "more than 1000 objects"),
        (nested(9999), "values nested too deeply"),
    ],
)
def test_what_cannot_be_identified_equals_nothing(
    value: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MAX_OBJECTS", 1000)

    def make(params: Any) -> Any:
        return (value, torch.optim.SGD(params))[1]

    assert identity_of(make) != identity_of(make)
    assert identity_of(make).unknown.partition(", in ")[0] == why


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda params: (importlib.import_module, torch.optim.SGD(params))[1], "import"),
        (lambda params: (__import__, torch.optim.SGD(params))[1], "import"),
        (lambda params: (sys.modules["re"], torch.optim.SGD(params))[1], "import"),
        (lambda params: (lambda: ops.mine.f, torch.optim.SGD(params))[1], "torch.ops.mine.f"),
        (lambda params: (lambda: torch.ops.mine.f, torch.optim.SGD(params))[1], "torch.ops.mine.f"),
    ],
)
def test_code_that_cannot_be_followed_equals_nothing(make: Any, why: str) -> None:
    assert identity_of(make) != identity_of(make)
    assert why in identity_of(make).unknown


def test_a_method_put_on_an_installed_class_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    identities = [identity_of(torch.optim.Rprop)]
    for scale in (lambda self: 1, lambda self: 2):
        monkeypatch.setattr(torch.optim.Rprop, "scale", scale, raising=False)
        identities.append(identity_of(torch.optim.Rprop))
    assert len(set(map(str, identities))) == 3


def test_a_setting_from_the_environment_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(params: Any) -> Any:
        return torch.optim.SGD(params, lr=float(os.environ["LR"]))

    identities = []
    for lr in ("0.1", "0.2"):
        monkeypatch.setenv("LR", lr)
        identities.append(identity_of(make))
    assert identities[0] != identities[1]


def test_a_wrapped_optimizer_is_part_of_the_wrapper(identify_files: Find) -> None:
    pytest.importorskip("pytorch_optimizer")
    name = "pytorch_optimizer.Lookahead:optimizer=opt.Mine"
    case = "class Mine(SGD):\n    rate = [[1|2]]\n"
    before, after = (identify_files(files(case, edited=edited), name) for edited in (False, True))
    assert before != after
    assert list(before.packages) == ["pytorch_optimizer"]


def test_installed_packages_count_by_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that own code names, not only that of the class."""

    def make(params: Any) -> Any:
        return (hypothesis.given, torch.optim.SGD(params))[1]

    before = identity_of(make)
    assert before.packages == {"hypothesis": hypothesis.__version__}
    monkeypatch.setattr(origin, "version", lambda name: "0.0")
    assert identity_of(make) != before
    assert identity_of(make).content["content"] == before.content["content"]


@pytest.mark.parametrize(
    ("module", "own"),
    [
        *((name, False) for name in ("torch.optim", "os.path", "builtins", "hypothesis", "abc")),
        *((name, True) for name in (__name__, "memsolve.optim", "nowhere")),
    ],
)
def test_own_code_is_what_nobody_has_installed(module: str, own: bool) -> None:
    assert origin.is_own(module) is own
