"""Lay the kernels out as the Hugging Face hub has them: `python kernels/hub/lay_out.py [DIR]`.

DIR (`build/hub` by default) is then a repository of the `kernels` library: for each backend a
folder `build/torch-BACKEND` with the package and its metadata, a card, and the benchmarks that
`kernels benchmark DIR` runs. The library loads a folder from any path and under another name, and
several versions side by side. Imports within the package therefore become relative, and operators
are registered under a name that contains a hash of the sources.

Source: https://huggingface.co/docs/kernels (kernel requirements, kernels benchmark).
"""

import argparse
import base64
import hashlib
import json
import re
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "memsolve_kernels"
DEFAULT = HERE.parents[1] / "build" / "hub"

IMPORT = re.compile(r"^(\s*from )memsolve_kernels(?:\.(\S+))? import", re.MULTILINE)
OPERATORS = '"memsolve::'
"""The beginning of an operator's name in the sources."""

VERSION = re.compile(r'__version__ = "(\d+)\..*"')
CAPABILITY = re.compile(r"^    Architecture\(\((\d+), (\d+)\)", re.MULTILINE)

BACKENDS = "cpu", "cuda"
"""Each has a folder of the same sources, which select their backend by device."""


def lay_out(repository: Path) -> None:
    """Write the repository; folders of an earlier call are replaced."""
    for backend in BACKENDS:
        variant = repository / "build" / f"torch-{backend}"
        shutil.rmtree(variant, ignore_errors=True)
        _write_variant(variant, backend)
    benchmarks = repository / "benchmarks"
    benchmarks.mkdir(exist_ok=True)
    shutil.copyfile(HERE / "benchmark.py", benchmarks / "benchmark.py")
    shutil.copyfile(HERE / "card.md", repository / "README.md")
    shutil.copyfile(HERE.parent / "LICENSE", repository / "LICENSE")


def _write_variant(variant: Path, backend: str) -> None:
    sources = {path.relative_to(PACKAGE): path.read_text() for path in PACKAGE.rglob("*.py")}
    digest = hashlib.sha1("".join(sources[path] for path in sorted(sources)).encode())
    identifier = f"_memsolve_kernels_{backend}_{digest.hexdigest()[:7]}"
    for path, source in sources.items():
        dots = "." * len(path.parts)
        relative = IMPORT.sub(rf"\g<1>{dots}\g<2> import", source)
        (variant / path).parent.mkdir(parents=True, exist_ok=True)
        (variant / path).write_text(relative.replace(OPERATORS, f'"{identifier}::'))
    (version,) = VERSION.findall(sources[Path("__init__.py")])
    metadata = {
        "name": "memsolve-kernels",
        "id": identifier,
        "version": int(version),
        "license": "Apache-2.0",
        "python-depends": [],
        "backend": {"type": backend, **_architectures(backend)},
        "digest": {"algorithm": "sha256", "files": _hashes(variant)},
    }
    (variant / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")


def _architectures(backend: str) -> dict[str, list[str]]:
    """The compute capabilities of CUDA, as metadata."""
    if backend != "cuda":
        return {}
    table = (PACKAGE / "architectures.py").read_text()
    return {"archs": [f"{major}.{minor}" for major, minor in CAPABILITY.findall(table)]}


def _hashes(variant: Path) -> dict[str, str]:
    """The SHA-256 of every file, by its path."""
    return {
        path.relative_to(variant).as_posix(): base64.b64encode(
            hashlib.sha256(path.read_bytes()).digest()
        ).decode()
        for path in sorted(variant.rglob("*.py"))
    }


def _main() -> None:
    parser = argparse.ArgumentParser(
        description="Lay the kernels out as the Hugging Face hub has them."
    )
    parser.add_argument(
        "repository", nargs="?", type=Path, default=DEFAULT, help="folder, by default build/hub"
    )
    lay_out(parser.parse_args().repository)


if __name__ == "__main__":
    _main()
