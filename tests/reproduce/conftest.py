"""A small repository, built once and copied for each test."""

import shutil
from pathlib import Path

import pytest
from small_repository import NOISY, RESULTS, WORK, write_notebook

from xai_lib.reproduce.runner import reproduce


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """Two notebooks, run at once; the second is a fork that the profile does not name."""
    root = tmp_path_factory.mktemp("built")
    (root / "notebooks" / "profiles").mkdir(parents=True)
    (root / "notebooks" / "profiles" / "embedded.yaml").write_text("01_full: {seed: 7, width: 2}\n")
    (root / "xai_lib").mkdir()
    (root / "xai_lib" / "method.py").write_text("")
    (root / "data").mkdir()
    (root / "data" / "weights.safetensors").write_bytes(b"weights")
    write_notebook(root / "notebooks" / "01_full.ipynb", WORK, NOISY, RESULTS)
    write_notebook(root / "notebooks" / "02_fork.ipynb", "print(seed)", parameters="seed = 1")
    assert reproduce(root, at_once=2) == 0
    return root


@pytest.fixture
def root(built, tmp_path) -> Path:
    return shutil.copytree(built, tmp_path / "root")
