"""`python kernels/hub.py REPOSITORY`: lay out the kernels as the Hugging Face hub loads them.

The hub loads `REPOSITORY/build/torch-universal` from any path and under another name, so that
imports within the package become relative. Its operators keep their names: in a process with
`memsolve_kernels` or another version, the operators of the last import serve both.
"""

import json
import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent / "memsolve_kernels"
IMPORT = re.compile(r"^(\s*from )memsolve_kernels(?:\.(\S+))? import", re.MULTILINE)


def lay_out(repository: Path) -> None:
    """Write the package and the hub's metadata."""
    variant = repository / "build" / "torch-universal"
    for source in PACKAGE.rglob("*.py"):
        path = source.relative_to(PACKAGE)
        dots = "." * len(path.parts)
        relative = IMPORT.sub(rf"\g<1>{dots}\g<2> import", source.read_text())
        (variant / path).parent.mkdir(parents=True, exist_ok=True)
        (variant / path).write_text(relative)
    (version,) = re.findall(r'__version__ = "(.*)"', (PACKAGE / "__init__.py").read_text())
    metadata = {
        "id": f"_memsolve_kernels_{version.replace('.', '_')}",
        "name": "memsolve-kernels",
        "version": int(version.partition(".")[0]),
        "license": "Apache-2.0",
        "python-depends": [],
        "backend": {"type": "cpu"},  # required; torch-universal serves all
    }
    (variant / "metadata.json").write_text(json.dumps(metadata, indent=1) + "\n")


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
