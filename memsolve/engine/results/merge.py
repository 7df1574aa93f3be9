"""Several finished studies of one kind as one, its optimizers ranked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memsolve.engine.options import options
from memsolve.engine.results.summary import Fit, Summary
from memsolve.engine.storage.ownership import SETTINGS_OF_EARLIER_VERSIONS
from memsolve.engine.study import AnyStudy
from memsolve.environment import Environment

Finished = tuple[AnyStudy, Summary[Any]]

SELECT_OPTIMIZERS = "optimizers", "sweep"
"""Fields that decide which optimizers are ranked, not how they are measured."""


def merge(loaded: Sequence[tuple[Path, AnyStudy, Summary[Any]]]) -> list[Finished]:
    """Finished studies in order, with those of one kind merged into one.

    An optimizer that two of them measured differently gets the folder's name as well.
    """
    by_study: dict[str, list[tuple[Path, Summary[Any]]]] = {}
    studies: dict[str, AnyStudy] = {}
    for folder, study, summary in loaded:
        studies[study.name] = study
        by_study.setdefault(study.name, []).append((folder, summary))
    return [
        (studies[name], group[0][1] if len(group) == 1 else _merge(studies[name], group))
        for name, group in by_study.items()
    ]


def _merge(study: AnyStudy, group: Sequence[tuple[Path, Summary[Any]]]) -> Summary[Any]:
    fits: list[Fit[Any]] = []
    remarks: dict[str, str] = {}
    for folder, summary in group:
        labels = {fit.optimizer for fit in fits}
        for fit in summary.fits:
            if fit in fits:
                continue
            label = f"{fit.optimizer} ({folder.name})" if fit.optimizer in labels else fit.optimizer
            fits.append(replace(fit, optimizer=label))
            if fit.optimizer in summary.remarks:
                remarks[label] = summary.remarks[fit.optimizer]
    summaries = [summary for _, summary in group]
    return Summary(
        study.name,
        "; ".join(summary.command for summary in summaries),
        _merge_environments([summary.environment for summary in summaries]),
        study.ranked(fits),
        remarks,
        {label: why for summary in summaries for label, why in summary.refused.items()},
        [failure for summary in summaries for failure in summary.failed],
        differences(study, [(folder, summary.grid) for folder, summary in group]),
        {label: why for summary in summaries for label, why in summary.unidentified.items()},
        summaries[0].grid,
    )


def differences(study: AnyStudy, grids: Sequence[tuple[Path, Mapping[str, Any]]]) -> str:
    """How the settings of studies differ: `settings differ (a / b): steps 4 / 5`; empty if not.

    Settings that no cell carries come first: they make numbers incomparable.

    Args:
        study: their kind.
        grids: the folder and the grid, as JSON, of each.
    """
    entries = []
    complete = [{**SETTINGS_OF_EARLIER_VERSIONS, **grid} for _, grid in grids]
    for name, option in sorted(options(study.grid), key=lambda entry: entry[1].in_cells):
        texts = [str(option.format(grid.get(name)) or "default") for grid in complete]
        if name not in SELECT_OPTIMIZERS and len(set(texts)) > 1:
            entries.append(f"{option.flag.removeprefix('--')} {' / '.join(texts)}")
    folders = " / ".join(folder.name for folder, _ in grids)
    return f"settings differ ({folders}): {'; '.join(entries)}" if entries else ""


def _merge_environments(environments: Sequence[Environment]) -> Environment:
    """Every value of each entry."""
    names = dict.fromkeys(name for environment in environments for name in environment)
    values = {
        name: list(dict.fromkeys(each[name] for each in environments if name in each))
        for name in names
    }
    return {
        name: distinct[0] if len(distinct) == 1 else " / ".join(map(str, distinct))
        for name, distinct in values.items()
    }
