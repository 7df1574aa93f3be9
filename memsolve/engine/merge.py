"""Several finished studies of one kind as one, its optimizers ranked."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memsolve.engine.settings import differences
from memsolve.engine.study import Study
from memsolve.engine.summary import Fit, Summary
from memsolve.environment import Environment

AnyStudy = Study[Any, Any, Any]
Finished = tuple[AnyStudy, Summary[Any]]


def merged(loaded: Sequence[tuple[Path, AnyStudy, Summary[Any]]]) -> list[Finished]:
    """Finished studies, in order; those of one kind as one.

    An optimizer that two of them have measured differently bears the folder's name too.
    """
    alike: dict[str, list[tuple[Path, Summary[Any]]]] = {}
    studies: dict[str, AnyStudy] = {}
    for folder, study, summary in loaded:
        studies[study.name] = study
        alike.setdefault(study.name, []).append((folder, summary))
    return [
        (studies[name], group[0][1] if len(group) == 1 else _one(studies[name], group))
        for name, group in alike.items()
    ]


def _one(study: AnyStudy, group: Sequence[tuple[Path, Summary[Any]]]) -> Summary[Any]:
    fits: list[Fit[Any]] = []
    remarks: dict[str, str] = {}
    for folder, summary in group:
        known = {fit.optimizer for fit in fits}
        for fit in summary.fits:
            if fit in fits:
                continue
            label = f"{fit.optimizer} ({folder.name})" if fit.optimizer in known else fit.optimizer
            fits.append(replace(fit, optimizer=label))
            if fit.optimizer in summary.remarks:
                remarks[label] = summary.remarks[fit.optimizer]
    summaries = [summary for _, summary in group]
    return Summary(
        study.name,
        "; ".join(summary.command for summary in summaries),
        _environment([summary.environment for summary in summaries]),
        study.ranked(fits),
        remarks,
        {label: why for summary in summaries for label, why in summary.refused.items()},
        [failure for summary in summaries for failure in summary.failed],
        differences(study, [(folder, summary.command) for folder, summary in group]),
        {label: why for summary in summaries for label, why in summary.unidentified.items()},
    )


def _environment(found: Sequence[Environment]) -> Environment:
    """Every value that a name has had."""
    names = dict.fromkeys(name for environment in found for name in environment)
    values = {
        name: list(dict.fromkeys(each[name] for each in found if name in each)) for name in names
    }
    return {
        name: given[0] if len(given) == 1 else " / ".join(map(str, given))
        for name, given in values.items()
    }
