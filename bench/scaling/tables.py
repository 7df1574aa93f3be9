"""The tables of `docs/scaling.md`, in Markdown; `python -m bench.readme` writes them."""

import json
from pathlib import Path
from typing import Any

from bench import record
from bench.scaling.sweep import efficiencies, tuned_efficiencies
from bench.scaling.ways import (
    STOCK_SIGN,
    Way,
    efficiency,
    items_shared,
    kernel_outputs,
    limit,
    muon_replicated,
    muon_sharded,
    outputs_shared,
    seconds,
)

WORKERS = 1, 2, 4, 16, 64, 256, 1024
SPREADS, SPREAD_WORKERS = (0.0, 0.25, 0.5, 1.0), 64
GPUS = 2, 4, 8, 16, 64, 256, 1024

PROCESSES_RECORD = record.FOLDER / "scaling" / "processes.json"
"""Where `python -m bench.scaling.measure` writes."""

LABELS = {
    "sweep": "a sweep that tunes, d = 32 and 64",
    "memory": "a study of one memory, d = 128, N = 16384",
    "muon": "a step of Muon, 16 matrices, d = 512",
}
"""By name of a measurement, what it measures."""

WAYS: dict[str, Way] = {
    "items of a memory, d = 8192": items_shared(8192),
    "items of a memory, d = 2048": items_shared(2048),
    "outputs of a memory*, d = 8192": outputs_shared(8192),
    "outputs of a memory*, d = 2048": outputs_shared(2048),
    "Muon, sharded": muon_sharded(4096, 128),
    "Muon, sharded, stock steps": muon_sharded(4096, 128, STOCK_SIGN),
    "Muon, replicated": muon_replicated(4096, 128),
    "Muon, replicated, stock steps": muon_replicated(4096, 128, STOCK_SIGN),
    "kernels, outputs sharded": kernel_outputs(8192, 131072, 4096),
}
"""By what is shared out. Muon has 128 matrices of 4096 rows and columns; the kernels 8192 queries,
131072 outputs and d = 4096."""


def sweeps_table() -> str:
    """The efficiency of sweeps."""
    columns = [efficiencies(workers) for workers in WORKERS]
    rows = [[name, *(f"{column[name]:.2f}" for column in columns)] for name in columns[0]]
    return _table(["workers", *map(str, WORKERS)], rows)


def spreads_table() -> str:
    """The efficiency of a tuned sweep on 64 workers, by the spread of the runs' times."""
    columns = [tuned_efficiencies(SPREAD_WORKERS, spread) for spread in SPREADS]
    rows = [[name, *(f"{column[name]:.2f}" for column in columns)] for name in columns[0]]
    return _table([f"spread of times, {SPREAD_WORKERS} workers", *map(str, SPREADS)], rows)


def ways_table() -> str:
    """The efficiency of the ways, what a step takes, and where each stops."""
    head = ["shared out", "one GPU", "bytes at 64", *map(str, GPUS), "0.5 up to", "then"]
    return _table(head, [_row(name, way) for name, way in WAYS.items()])


def processes_table(path: Path = PROCESSES_RECORD) -> str:
    """What `python -m bench.scaling.measure` measured: seconds, and the efficiency."""
    if not path.exists():
        return "Not measured yet."
    content: dict[str, Any] = json.loads(path.read_text())
    here = content["machine"]
    rows = [
        [
            LABELS[name],
            *(
                f"{duration:.3g} s ({durations['1'] / (int(processes) * duration):.2f})"
                for processes, duration in durations.items()
            ),
        ]
        for name, durations in content["seconds"].items()
    ]
    table = _table(["processes", *next(iter(content["seconds"].values()))], rows)
    return (
        f"{table}\n\n{here['device']}, one thread a process, torch {here['torch']}, Python "
        f"{here['python']}; commit {content['commit'][:10]}, {content['date']}; "
        f"`{content['command']}`"
    )


def _row(name: str, way: Way) -> list[str]:
    gpus, what = limit(way)
    return [
        name,
        format_seconds(seconds(way, 1)),
        f"{way(64).passing(64) / 1e9:.2g} GB",
        *(f"{efficiency(way, each):.2f}" for each in GPUS),
        str(gpus),
        what,
    ]


def format_seconds(duration: float) -> str:
    """A duration of at least a millisecond: milliseconds below a second, else two digits."""
    return f"{1e3 * duration:.0f} ms" if duration < 1 else f"{float(f'{duration:.2g}'):g} s"


def _table(head: list[str], rows: list[list[str]]) -> str:
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ruler, *rows])
