"""The repository itself: requirements agree, notebooks are clean, profiles fit, floors hold."""

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path

import papermill
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from xai_lib.reproduce.plan import plan

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "xai_lib"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CONDA_NAMES = {"torch": "pytorch"}

FLOORS = {
    "functional_information": 3,
    "spectral_lens": 3,
    "blur_ig": 3,
    "forgrad": 3,
    "rate_distortion": 3,
    "baselines": 3,
    "gradients": 2,
    "masks": 2,
    "metrics": 2,
    "reproduce": 2,
    "outputs": 1,
    "covariance": 1,
    "scale_space": 1,
    "ledger": 1,
}
APART = {"datasets", "models", "plots"}


def test_conda_environment_has_the_bounds_of_pyproject():
    *conda, from_pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    expected = {f"python{PROJECT['requires-python']}", "pip"}
    for text in REQUIREMENTS:
        requirement = Requirement(text)
        expected.add(f"{CONDA_NAMES.get(requirement.name, requirement.name)}{requirement.specifier}")
    assert {*conda, *from_pip["pip"]} == expected


@pytest.mark.parametrize("text", REQUIREMENTS)
def test_lock_satisfies_pyproject(text):
    requirement = Requirement(text)
    locked = re.findall(rf"^{re.escape(requirement.name)}==(\S+)", lock_text(), re.MULTILINE)
    assert locked
    assert all(Version(version) in requirement.specifier for version in locked)


def test_lock_is_hashed_and_names_no_index():
    text = lock_text()
    assert "://" not in text and not re.search(r"^\s*-", text.replace("    --hash=", ""), re.MULTILINE)
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert all("--hash=sha256:" in block for block in blocks)


def lock_text() -> str:
    return (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_reads_every_parameter(notebook):
    """It skips a line whose comment has an equals sign."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    source = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", ()))
    assigned = [target.id for node in ast.parse(source).body for target in node.targets]
    assert list(papermill.inspect_notebook(str(notebook))) == assigned


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_sources_carry_no_results(notebook):
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count")
        assert cell["id"]  # or the executed copy would get a new one in every run


@pytest.mark.parametrize("profile", ["smoke", "embedded", "sample", "paper"])
def test_profiles_name_known_notebooks_and_fitting_parameters(profile):
    assert len(plan(ROOT, profile, None, [])) == len(NOTEBOOKS)


def test_no_committed_file_is_large():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a git repository")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert not [path for path in files if path.exists() and path.stat().st_size > 5_000_000]


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_modules_import_only_from_floors_below(path):
    module = path.relative_to(LIBRARY).with_suffix("").parts[0]
    if module == "__init__":
        return
    assert module in FLOORS or module in APART, f"{module} has no floor"
    allowed = {module} | {name for name, floor in FLOORS.items() if floor < FLOORS.get(module, 2)}
    if module in APART:
        allowed |= APART
    assert imported_modules(path) <= allowed


def imported_modules(path: Path) -> set[str]:
    """Top-level modules of xai_lib that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("xai_lib.")}
    return found
