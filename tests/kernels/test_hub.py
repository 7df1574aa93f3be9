"""The layout for the Hugging Face hub: it loads from anywhere, under another name, by itself."""

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = """
import importlib.util, json, sys, types
from pathlib import Path

sys.modules["memsolve_kernels"] = None  # an import of it fails, installed or not

import torch


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kernels = {}
for backend in ("cpu", "cuda"):
    variant = Path("build") / f"torch-{backend}"
    name = json.loads((variant / "metadata.json").read_text())["id"]
    kernels[name] = load(name, variant / "__init__.py")

eye = torch.eye(3)
for name, kernel in kernels.items():
    assert torch.equal(kernel.matrix_sign(2 * eye), eye)
    assert kernel.softmax_loss(eye, eye, torch.arange(3)) > 0
    assert kernel.SoftmaxHead(3, 5)(eye, torch.arange(3)) > 0
    assert hasattr(torch.ops, name) and hasattr(getattr(torch.ops, name), "matrix_sign")


class Benchmark:
    seed, device = None, "cpu"


library, module = types.ModuleType("kernels"), types.ModuleType("kernels.benchmark")
module.Benchmark = Benchmark
sys.modules |= {"kernels": library, "kernels.benchmark": module}
script = load("benchmark_module", Path("benchmarks/benchmark.py"))
workloads = 0
for cls in (script.SoftmaxLossBenchmark, script.MatrixSignBenchmark):
    for workload in [each for each in dir(cls) if each.startswith("benchmark_")]:
        instance = cls()
        instance.kernel, instance.out = kernel, None
        torch.manual_seed(instance.seed)
        instance.setup()
        getattr(instance, workload)()
        expected = getattr(instance, workload.replace("benchmark_", "verify_"))()
        assert torch.allclose(instance.out, expected, atol=1e-2), workload
        workloads += 1
assert workloads == 3
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub")
    command = [sys.executable, str(ROOT / "kernels" / "hub" / "lay_out.py"), str(path)]
    subprocess.run(command, check=True)
    return path


def test_help_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "kernels" / "hub" / "lay_out.py"), "--help"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "repository" in run.stdout
    assert not list(tmp_path.iterdir())


def test_runs_as_the_hubs_library_runs_it(repository: Path) -> None:
    """From another folder, without the package that it is made from."""
    subprocess.run([sys.executable, "-P", "-c", RUN], cwd=repository, check=True)


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_the_metadata_are_those_that_the_library_checks(repository: Path, backend: str) -> None:
    variant = repository / "build" / f"torch-{backend}"
    metadata = json.loads((variant / "metadata.json").read_text())
    assert metadata["id"].isidentifier()
    assert metadata["backend"]["type"] == backend
    assert ("9.0" in metadata["backend"].get("archs", [])) == (backend == "cuda")
    files = {
        path.relative_to(variant).as_posix(): path.read_bytes()
        for path in variant.rglob("*")
        if path.is_file() and path.name != "metadata.json"
    }
    assert metadata["digest"]["files"] == {
        name: base64.b64encode(hashlib.sha256(content).digest()).decode()
        for name, content in files.items()
    }
    text = b"".join(files.values())
    assert b"from memsolve_kernels" not in text
    assert b'"memsolve::' not in text


def test_the_card_has_its_metadata_and_names_every_function(repository: Path) -> None:
    import memsolve_kernels

    card = (repository / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: kernels\nlicense: apache-2.0\n")
    functions = set(memsolve_kernels.__all__) - {"Retrieval", "SoftmaxStatistics"}
    assert all(f"| `{name}` |" in card for name in functions)
