"""The two distributions: each holds its package and no more, and memsolve needs its kernels."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="builds the distributions")

ROOT = Path(__file__).parents[1]


def built(project: Path, target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "-d", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (file,) = folder.iterdir()
    return file


def wheel(project: Path, folder: Path) -> tuple[set[str], set[str], str]:
    """The packages' files, what else there is, and what the wheel requires."""
    with zipfile.ZipFile(built(project, "wheel", folder)) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        requires = re.findall(r"^Requires-Dist: (.*)$", archive.read(metadata).decode(), re.M)
    others = {name.partition(".dist-info/")[2] for name in names if ".dist-info/" in name}
    return {name for name in names if ".dist-info/" not in name}, others, "\n".join(requires)


def unpacked(project: Path, folder: Path) -> Path:
    """Its source archive, as a project again."""
    with tarfile.open(built(project, "sdist", folder / "archive")) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (root,) = (folder / "unpacked").iterdir()
    return root


def files(root: Path, *folders: str) -> set[str]:
    """What git has in these folders."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", *folders], check=True, capture_output=True, text=True
    )
    return set(listed.stdout.split())


KERNELS = files(ROOT / "kernels", "memsolve_kernels")
MEMSOLVE = files(ROOT, "memsolve") | {"memsolve/records/leaderboard/summary.json"}
DIST_INFO = {"METADATA", "WHEEL", "RECORD", "licenses/LICENSE"}


def test_the_kernels_are_a_distribution_of_their_own(tmp_path: Path) -> None:
    source = unpacked(ROOT / "kernels", tmp_path)
    others = {"PKG-INFO", "LICENSE", "README.md", "pyproject.toml", ".gitignore"}
    assert {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()} == (
        KERNELS | others
    )
    for project in (ROOT / "kernels", source):
        packed, others, requires = wheel(project, tmp_path / project.name)
        assert packed == KERNELS
        assert others == DIST_INFO
        needed = {re.split(r"[^a-z-]", line)[0] for line in requires.splitlines()}
        assert needed == {"numpy", "torch", "triton", "hypothesis", "ml-dtypes", "pytest"}
        assert "pytest>=8; extra == 'test'" in requires


def test_memsolve_brings_the_kernels_from_a_clone_and_else_depends_on_them(tmp_path: Path) -> None:
    packed, others, requires = wheel(ROOT, tmp_path / "clone")
    assert packed == MEMSOLVE | KERNELS
    assert others == DIST_INFO | {"entry_points.txt"}
    assert "memsolve-kernels" not in requires
    source = unpacked(ROOT, tmp_path)
    packed, others, requires = wheel(source, tmp_path / "archive-wheel")
    assert packed == MEMSOLVE
    assert others == DIST_INFO | {"entry_points.txt"}
    version = re.search(r"memsolve-kernels == (\S+)", requires)
    assert version is not None
    assert source.name == f"memsolve-{version[1]}"


def test_both_carry_the_same_license() -> None:
    assert (ROOT / "kernels" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
