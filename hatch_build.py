"""Where memsolve takes its kernels from: its own tree in a clone, else memsolve-kernels.

A clone installs both packages, so that it needs no index and one edit serves both. Its source
archive holds memsolve alone, and what is made of that depends on memsolve-kernels.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelsHook(BuildHookInterface):
    """Adds the dependency to source archives, and to wheels that do not hold the kernels."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds `version`, "standard" or "editable"."""
        if self.target_name == "sdist" or not Path(self.root, "kernels").is_dir():
            build_data["dependencies"].append(f"memsolve-kernels == {self.metadata.version}")
