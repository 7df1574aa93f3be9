"""Recorded resources of compiled kernels, so that unchanged ones need no compilation in a test.

`python -m tests.kernels.compiled_record` compiles every kernel and writes the record. An entry
holds as long as the fingerprint of its kernel does: its source, types, constants, options and the
version of Triton. A sample of the entries is compiled in every test run all the same.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from memsolve_kernels.compiled import Resources, everywhere, fingerprint, resources
from memsolve_kernels.launch import Variant

FILE = Path(__file__).parent / "data" / "compiled.json"

SAMPLE = 40
"""One in so many recorded kernels is compiled again."""

Record = dict[str, dict[str, Any]]


@cache
def read() -> Record:
    """Fingerprints and resources by architecture and variant."""
    record: Record = json.loads(FILE.read_text())
    return record


def name_of(arch: int, variant: Variant) -> str:
    return f"sm_{arch} {variant.name}"


def recorded(record: Record, arch: int, variant: Variant) -> Resources | None:
    """The recorded resources of a kernel; None if it has changed since, or is new."""
    entry = dict(record.get(name_of(arch, variant), {}))
    return Resources(**entry) if entry.pop("fingerprint", "") == fingerprint(variant) else None


def sample(record: Record) -> set[str]:
    """Names of the recorded kernels that are compiled again."""
    return set(list(record)[::SAMPLE])


def main() -> None:
    record = {
        name_of(arch, variant): {"fingerprint": fingerprint(variant), **vars(used)}
        for arch, variant, used in everywhere(resources)
    }
    FILE.parent.mkdir(exist_ok=True)
    lines = (f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in record.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
