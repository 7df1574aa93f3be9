"""The identity of an optimizer, so that a result is used again for the same optimizer only.

Names do not identify an optimizer: a class is edited, a package updated, a factory rewritten under
its label. Its identity is a digest of the factory, and of the class and settings of the optimizer.

- *Own code* is followed: all code outside of Python and of installed distributions; an editable
  install is own. It counts as bytecode, without comments, docstrings, annotations, line numbers and
  paths, with every class, function and value that it names, in any module, and those that they
  name in turn. Of a module `helpers`, `helpers.scale` adds that function alone; any other use, such
  as `getattr(helpers, name)`, adds the module with all its members. A module that is imported only
  in a step, and is not loaded yet, counts by the text of its file, with the files of the packages
  that hold it and of the modules that they import.
- *Installed code* counts by its name and the version of its distribution. So do the kernels; if
  their install is editable, also by the text of all their files.
- *Values* count by their content, as pickle takes it; a dict in its order, a set in none. They are
  read before any optimizer of the study takes a step. What a module does when it is imported, such
  as a call of `torch.set_default_dtype`, counts only by the values that it leaves.
- *Left out* is live state of the process: environment variables, files, locks, loggers, weak
  references, and random generators with their seeds; also the content of files that are read in a
  step. A setting that comes from the environment still counts, as every setting of the optimizer.
- *Not identified* are generators, objects that pickle refuses, operators of `torch.ops` beyond
  `aten`, and imports by a computed name, as by `sys.modules`. An optimizer that holds one gets a
  new digest each time, so that it is measured again, and `Identity.unknown` says why.
"""

import secrets
from typing import Any, NamedTuple

from torch.optim import Optimizer

from memsolve.environment import Environment
from memsolve.optimizers.choices import Choice
from memsolve.optimizers.identity.content import Content, UnidentifiedError
from memsolve.optimizers.identity.describe import describe
from memsolve.optimizers.identity.origin import distributions
from memsolve.optimizers.registry import load_named


class Identity(NamedTuple):
    """The identity of an optimizer.

    Attributes:
        content: its name if it has one, the versions of installed packages, and a digest.
        unknown: the part that cannot be identified, so that no other identity equals this one;
            empty if there is none.
    """

    content: Environment
    unknown: str = ""

    @property
    def packages(self) -> Environment:
        """The packages with their versions."""
        entries = [entry for entry in str(self.content["packages"]).split(", ") if entry]
        return {name: number for name, _, number in (entry.rpartition(" ") for entry in entries)}


def identity(choice: Choice, optimizer: Optimizer) -> Identity:
    """Identify an optimizer.

    Args:
        choice: a name or a factory.
        optimizer: built by it, before its first step.
    """
    make, settings = load_named(choice) if isinstance(choice, str) else (choice, {})
    content = Content(describe)
    unknown = ""
    try:
        digest = content.digest(make, settings, type(optimizer), _settings(optimizer))
    except UnidentifiedError as error:
        digest, unknown = secrets.token_hex(8), str(error)
    packages = sorted({each for module in content.installed for each in distributions(module)})
    name = choice if isinstance(choice, str) else ""
    return Identity(
        {"optimizer": name, "packages": ", ".join(packages), "content": digest}, unknown
    )


def _settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The settings of every group of parameters."""
    return [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
