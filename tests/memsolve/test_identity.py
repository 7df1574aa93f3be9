"""Every edit of an optimizer is noticed, and nothing else is."""

import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from memsolve.engine.identity import Identity, identity
from tests.memsolve.identity_cases import EDITS, UNRELATED, files

Find = Callable[[dict[str, str]], Identity]


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
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Find:
    """The identity of the optimizer of some files, which are imported anew."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def find(texts: dict[str, str], folder: Path = tmp_path / "here") -> Identity:
        shutil.rmtree(folder, ignore_errors=True)
        write(folder, texts)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            try:
                make = importlib.import_module("opt").make
                return identity(make, make([torch.nn.Parameter(torch.zeros(2, 2))]))
            finally:
                forget(folder)

    return find


@pytest.mark.parametrize("case", EDITS)
def test_an_edit_is_noticed(case: str, found: Find) -> None:
    before, again, after = (found(files(EDITS[case], edited=e)) for e in (False, False, True))
    assert not before.unknown
    assert before == again != after


@pytest.mark.parametrize("case", UNRELATED)
def test_an_unrelated_change_is_not(case: str, found: Find) -> None:
    before, after = (found(files(UNRELATED[case], edited=edited)) for edited in (False, True))
    assert not before.unknown
    assert before == after
