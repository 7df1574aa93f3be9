"""What an optimizer is made of, so that a result is taken again for the same one only.

Names do not identify it: a class is edited, a package updated, a factory rewritten under its label.
Its identity is a digest of the factory, and of the class and settings of what that makes.

- *Code that is followed* is the user's own: all that lies outside of Python and of installed
  distributions; an editable install is own. It counts as bytecode, without comments, docstrings,
  annotations, line numbers and paths, together with every class, function and value that it names,
  in any module, and what these name in turn. Of a module `helpers`, `helpers.scale` takes that
  function alone; any other use, as `getattr(helpers, name)`, takes the whole module.
- *Installed code* counts by its name and the version of its distribution. The kernels count so too,
  and where they are an editable install, by the text of all their files.
- *Values* count by their content, as pickle takes it; a dict in its order, a set in none. They are
  taken before any optimizer of the study has stepped.
- *Left out* is live state of the process: environment variables, files, locks, loggers, weak
  references, and random generators with their seeds; and what files hold that code reads in a step.
  A setting that comes from the environment still counts, as every setting of the optimizer.
- *Not identified* are generators, objects that pickle refuses, operators of `torch.ops` beyond
  `aten`, and imports by a computed name. The digest of what holds one is new each time, so that it
  is measured anew, and `Identity.unknown` says why.
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
    """What an optimizer is made of.

    Attributes:
        content: its name if it has one, the versions of installed packages, and a digest.
        unknown: what of it cannot be identified, so that no other identity equals this one; empty
            if all can.
    """

    content: Environment
    unknown: str = ""

    @property
    def packages(self) -> Environment:
        """The packages with their versions."""
        found = [one for one in str(self.content["packages"]).split(", ") if one]
        return {name: number for name, _, number in (one.rpartition(" ") for one in found)}


def identity(choice: Choice, made: Optimizer) -> Identity:
    """What an optimizer is made of.

    Args:
        choice: a name or a factory.
        made: what it has made, before its first step.
    """
    make, settings = load_named(choice) if isinstance(choice, str) else (choice, {})
    content = Content(describe)
    unknown = ""
    try:
        digest = content.digest(make, settings, type(made), _settings(made))
    except UnidentifiedError as error:
        digest, unknown = secrets.token_hex(8), str(error)
    packages = sorted({each for module in content.installed for each in distributions(module)})
    name = choice if isinstance(choice, str) else ""
    return Identity(
        {"optimizer": name, "packages": ", ".join(packages), "content": digest}, unknown
    )


def _settings(made: Optimizer) -> list[dict[str, Any]]:
    """The settings of every group of parameters."""
    return [
        {name: value for name, value in group.items() if name != "params"}
        for group in made.param_groups
    ]
