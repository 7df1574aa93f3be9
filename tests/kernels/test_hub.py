"""The layout for the Hugging Face hub: it loads from anywhere, under another name, by itself."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOAD = """
import importlib.util, json, sys
from pathlib import Path

variant = Path("build/torch-universal")
name = json.loads((variant / "metadata.json").read_text())["id"]
spec = importlib.util.spec_from_file_location(name, variant / "__init__.py")
sys.modules[name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert "memsolve_kernels" not in sys.modules

import torch

eye = torch.eye(3)
assert torch.equal(module.matrix_sign(2 * eye), eye)
assert module.softmax_loss(eye, eye, torch.arange(3)) > 0
"""


def test_loads_as_the_hub_does(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "kernels" / "hub.py"), str(tmp_path)], check=True)
    subprocess.run([sys.executable, "-c", LOAD], cwd=tmp_path, check=True)
