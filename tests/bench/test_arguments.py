"""What is asked of a command and cannot be done is an error of one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import history
from bench.gate import __main__ as gate


@pytest.mark.parametrize(
    ("main", "arguments", "says"),
    [
        (bench.main, ["--cases", "("], "--cases '(' is no regular expression"),
        (bench.main, ["--device", "cuda"], "torch sees no CUDA device"),
        (bench.main, ["--out", "/dev/null/x.json"], "--out /dev/null/x.json cannot be written"),
        (bench.main, ["--out", "/"], "--out / cannot be written"),
        (gate.main, ["no-such-revision"], "error: 'no-such-revision' is no revision"),
        (gate.main, ["."], "error: '.' has no memsolve/"),
        (history.main, ["no-such-revision"], "error: 'no-such-revision' is no revision"),
    ],
)
def test_an_error_is_one_line(
    main: Callable[[], int],
    arguments: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["a command", *arguments])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
