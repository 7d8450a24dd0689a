"""What to build: notebooks with checked parameters, and a digest of all that their results depend on."""

import ast
import contextlib
import difflib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

EXAMPLE = "03_blur_ig: {n_images: 64, seed: 1}"
REPOSITORY = Path(__file__).resolve().parents[2]


class Refused(ValueError):
    """A request that cannot be carried out, in one sentence; raised before anything runs."""


@dataclass(frozen=True)
class Job:
    """A notebook to be run with `overrides` in place of some of its parameters' defaults."""

    source: Path
    target: Path  # the folder of its results
    overrides: dict[str, Any]
    parameters: dict[str, Any]  # all of them, after merging
    inputs: str  # digest of what the results depend on

    @property
    def name(self) -> str:
        return self.source.stem


def plan(root: Path, profile: str, notebook: str | None, assignments: Iterable[str]) -> list[Job]:
    """The jobs of a profile: all notebooks of the repository under `root`, or the one that is named.

    `assignments` ("name=value") override the profile; each goes to the notebooks that have the parameter.
    """
    sources = {path.stem: path for path in sorted((root / "notebooks").glob("*.ipynb"))}
    folder, of_profile = _read_profile(root, profile)
    for name in of_profile:
        _check_known("notebook", name, sources, f" in profile {profile}")
    if notebook is not None:
        name = Path(notebook).name.removesuffix(".ipynb")
        _check_known("notebook", name, sources)
        sources = {name: sources[name]}

    defaults = {name: read_parameters(source) for name, source in sources.items()}
    words = {key for parameters in defaults.values() for key, value in parameters.items() if isinstance(value, str)}
    extra = dict(_parse_assignment(assignment, words) for assignment in assignments)
    for parameter in extra:
        _check_known("parameter", parameter, set().union(*defaults.values()), f" of {', '.join(sources)}")

    shared = _shared_digest(root)
    jobs = []
    for name, source in sources.items():
        given = of_profile.get(name, {}) | {key: extra[key] for key in extra if key in defaults[name]}
        overrides = {key: _checked(name, key, value, defaults[name]) for key, value in given.items()}
        parameters = defaults[name] | overrides
        inputs = _digest(shared, source.read_text(encoding="utf-8"), json.dumps(parameters, default=str))
        jobs.append(Job(source, folder / name, overrides, parameters, inputs))
    return jobs


def read_parameters(source: Path) -> dict[str, Any]:
    """Names and default values in the notebook's `parameters` cell, which may hold literals only."""
    try:
        cells = _read_cells(source)
        tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{source} is not a notebook.") from error
    parameters = {}
    try:
        for statement in ast.parse("\n".join(tagged)).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    parameters[name] = ast.literal_eval(value)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    parameters[name] = ast.literal_eval(value)
                case _:
                    raise ValueError
    except (SyntaxError, ValueError) as error:
        raise Refused(
            f"{source.stem}: the parameters cell may only hold assignments of literals, name = value."
        ) from error
    return parameters


def read_title(source: Path) -> str:
    """The first heading of a notebook, or its name."""
    texts = ("".join(cell["source"]) for cell in _read_cells(source) if cell["cell_type"] == "markdown")
    heading = re.search(r"^# (.+)", "\n".join(texts), re.MULTILINE)
    return heading[1] if heading else source.stem


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that pyproject.toml asks for."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, str | None] = {"python": platform.python_version()}
    for requirement in project["dependencies"]:
        package = re.split(r"[^A-Za-z0-9_.-]", requirement)[0]
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def folder_digest(folder: Path) -> str:
    """Digest of names and contents of a folder's files, hidden ones left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return _digest(*(f"{path.relative_to(folder)} {_file_digest(path)}" for path in files))


def _read_cells(notebook: Path) -> list[dict[str, Any]]:
    """The cells as they stand in the file; importing nbformat would take longer than all else here."""
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def _read_profile(root: Path, profile: str) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Folder for the results, and the parameters of each notebook."""
    known = {path.stem: path for path in (root / "notebooks" / "profiles").glob("*.yaml")}
    path = Path(profile)
    if path.suffix not in (".yaml", ".yml"):
        _check_known("profile", profile, known)
        path = known[profile]
    elif not path.is_file():
        raise Refused(f"The profile {profile} does not exist.")
    elif path.stem in known and path.resolve() != known[path.stem].resolve():
        raise Refused(f"The profile {profile} must not bear the name of a built-in one, {path.stem}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return root / "figures" / path.stem, {name: dict(values or {}) for name, values in content.items()}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise Refused(f"The profile {path} must map notebooks to parameters, as in {EXAMPLE}: {error}.") from error


def _parse_assignment(text: str, words: set[str]) -> tuple[str, Any]:
    """Name and value of "name=value"; what a parameter of `words` is given stays a text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise Refused(f"A parameter is given as name=value, got {text!r}.")
    if name in words:
        return name, value.strip("'\"")
    with contextlib.suppress(SyntaxError, ValueError):
        return name, ast.literal_eval(value)  # YAML would take 1e3 for a word
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise Refused(f"The value of parameter {name} cannot be read: {value!r}.") from error


def _checked(notebook: str, name: str, value: Any, defaults: dict[str, Any]) -> Any:
    _check_known("parameter", name, defaults, f" of {notebook}")
    default = defaults[name]
    if not _fits(value, default):
        raise Refused(
            f"{notebook}: parameter {name} must be of type {type(default).__name__}, "
            f"like its default {default!r}, got {value!r} of type {type(value).__name__}."
        )
    return float(value) if isinstance(default, float) else value


def _fits(value: Any, default: Any) -> bool:
    if default is None:
        return True
    if isinstance(default, float):
        return type(value) in (int, float)
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple) and all(_fits(item, default[0]) for item in value if default)
    return type(value) is type(default)  # a bool is an int to isinstance


def _check_known(kind: str, name: str, known: Iterable[str], where: str = "") -> None:
    known = sorted(known)
    if name not in known:
        near = difflib.get_close_matches(name, known) or known
        raise Refused(f"Unknown {kind} {name!r}{where}; known are {', '.join(near) or 'none'}.")


def _shared_digest(root: Path) -> str:
    """Digest of what every notebook depends on: library, weights and cards, versions, place of real data."""
    files = {path.relative_to(root): path for path in (root / "xai_lib").rglob("*.py")}
    for top in (root / "data").glob("*"):
        if top.name != "external":  # which may hold a million photographs
            files |= {path.relative_to(root): path for path in (top, *top.rglob("*")) if path.is_file()}
    contents = (f"{name} {_file_digest(path)}" for name, path in sorted(files.items()))
    return _digest(*contents, json.dumps(versions()), os.environ.get("XAI_DATA", ""))


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
