"""What is asked of `python -m bench` and cannot be done is an error of one line."""

import pytest

from bench.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cases", "("], "--cases '(' is no regular expression"),
        (["--device", "cuda"], "torch sees no CUDA device"),
        (["--out", "/dev/null/x.json"], "--out /dev/null/x.json cannot be written"),
        (["--out", "/"], "--out / cannot be written"),
    ],
)
def test_an_error_is_one_line(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
