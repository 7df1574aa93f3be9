"""README and docs/: short enough, linked, true to the command line; their Python runs."""

import ast
import contextlib
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from memsolve.cli import commands

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "kernels" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_WORDS = 1000


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def load_builder() -> Any:
    """docs/build.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDER = load_builder()
COMMANDS: dict[str, Any] = cast("Any", typer.main.get_command(commands([]))).commands
SUBCOMMANDS: dict[str, dict[str, Any]] = {
    name: getattr(command, "commands", {}) for name, command in COMMANDS.items()
}


def blocks(path: Path, *languages: str) -> list[str]:
    """Fenced blocks of a page in these languages, without their indentation."""
    pattern = rf"^( *)```(?:{'|'.join(languages)})\n(.*?)^ *```"
    fenced = re.findall(pattern, path.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, text in fenced]


def command_lines(path: Path) -> Iterator[list[str]]:
    """Words of the command lines of a page: in blocks, and in the text between backticks."""
    text = path.read_text()
    spans = re.findall(r"(?<!`)`(?!`)([^`]+)`(?!`)", BUILDER.FENCED.sub("", text))
    lines = [line for block in blocks(path, "bash", "console") for line in block.splitlines()]
    for line in [*lines, *(" ".join(span.split()) for span in spans)]:
        words = shlex.split(line, comments=True) if line.count("'") % 2 == 0 else []
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words.pop(0)
        if len(words) > 1:
            yield words


def written_commands() -> list[tuple[str, list[str]]]:
    return [
        (name_of(path), words)
        for path in PAGES
        for words in command_lines(path)
        if words[0] == "memsolve" and not words[1].startswith("my_module")
    ]


def test_the_readme_takes_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= MOST_WORDS


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_relative_links_point_to_files(path: Path) -> None:
    targets = BUILDER.relative_links(path.read_text())
    missing = [target for target in targets if not (path.parent / target).exists()]
    assert not missing


def test_every_page_is_in_the_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text()
    pages = [str(path) for path in BUILDER.pages()]
    assert [page for page in pages if page not in config] == []


PYTHON = [(name_of(path), block) for path in PAGES for block in blocks(path, "python")]


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=[page for page, _ in PYTHON])
def test_python_compiles_and_its_imports_resolve(page: str, block: str) -> None:
    tree = ast.parse(block)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)


RUN = [(page, block) for page, block in PYTHON if page != "kernels/README.md"]


@pytest.mark.parametrize(("page", "block"), RUN, ids=[page for page, _ in RUN])
def test_python_runs(
    page: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, page, "exec"), {"__name__": "page"})


def test_command_lines_are_found() -> None:
    assert len(written_commands()) > 20


@pytest.mark.parametrize(
    ("page", "words"), written_commands(), ids=[" ".join(words) for _, words in written_commands()]
)
def test_command_lines_parse(page: str, words: list[str]) -> None:
    """A command and its options exist; values and files are not looked at."""
    command = COMMANDS[words[1]]
    arguments = [word for word in words[2:] if word != "--help"]
    if arguments and arguments[0] in SUBCOMMANDS[words[1]]:
        command = SUBCOMMANDS[words[1]][arguments.pop(0)]
    if not arguments and any(each.required for each in command.params):
        return  # a table names the command without its arguments
    command.make_context(words[1], arguments)


def test_options_in_the_text_exist() -> None:
    every = [*COMMANDS.values(), *(each for sub in SUBCOMMANDS.values() for each in sub.values())]
    known = {flag for each in every for option in each.params for flag in option.opts}
    docs = [path for path in PAGES if path.parent.name != "kernels"]
    named = {
        flag for path in docs for flag in re.findall(r"`(--[a-z-]+)(?: [^`]*)?`", path.read_text())
    }
    assert named - known == set()


def test_modules_and_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for path in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for words in command_lines(path):
            if words[0].endswith("python") and words[1] == "-m":
                assert importlib.util.find_spec(words[2]), words
            if words[0] == "make":
                assert re.search(rf"^([a-z-]+ )*{words[1]}( [a-z-]+)*:", makefile, re.M), words


def test_the_tutorial_runs(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        text = BUILDER.render_tutorial(BUILDER.TUTORIAL.read_text(), tmp_path)
    assert (tmp_path / "results" / "tutorial" / "report.html").is_file()
    assert "law 1.33 published" in text
    assert len(list(tmp_path.glob("tutorial-*.png"))) == 1


def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="builds the site")
    source = tmp_path / "source"
    BUILDER.lay_out(source, BUILDER.pages())
    (source / "docs" / "tutorial.md").write_text("# Tutorial\n")
    config = (ROOT / "mkdocs.yml").read_text()
    config = config.replace("docs_dir: build/docs", f"docs_dir: {source.name}")
    config = config.replace("paths: [., kernels]", f"paths: [{ROOT}, {ROOT / 'kernels'}]")
    config = config.replace("[docs/options.py]", f"[{ROOT / 'docs' / 'options.py'}]")
    (tmp_path / "mkdocs.yml").write_text(config)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "docs" / "reference" / "kernels.html").is_file()
