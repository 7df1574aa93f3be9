"""Followed over commits by asv, which takes lower for better.

The suite is that of the working tree and the package is that of the commit, so that what a commit
lacks is skipped: asv takes NotImplementedError in `setup` for a skip. `version` is set by hand, so
that history survives a change of the suite; raise it where a number changes its meaning.
"""

import importlib.util
import sys
from pathlib import Path

if "bench" not in sys.modules:  # asv imports this folder by itself, as `tracked`
    _spec = importlib.util.spec_from_file_location(
        "bench", Path(__file__).parents[1] / "__init__.py"
    )
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["bench"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["bench"])
