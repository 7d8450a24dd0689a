"""Settings of all tests: one thread, no window, the same examples every time, no benchmarks unless asked for.

`@pytest.mark.needs_data("imagenet/val")` skips a test where XAI_DATA does not hold that layout.
"""

import os
from pathlib import Path

import matplotlib
import pytest
import torch
from hypothesis import settings

matplotlib.use("Agg")
torch.set_num_threads(1)
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def pytest_ignore_collect(collection_path, config: pytest.Config) -> bool | None:
    asked_for = any("benchmarks" in argument for argument in config.args)
    return True if collection_path.name == "benchmarks" and not asked_for else None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_data(layout): skipped where XAI_DATA does not hold the layout")
    config.addinivalue_line("markers", "hours: a benchmark that takes hours, left out unless asked for by -m or -k")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs_data"):
        if not os.environ.get("XAI_DATA") or not (Path(os.environ["XAI_DATA"]) / mark.args[0]).exists():
            pytest.skip(f"XAI_DATA holds no {mark.args[0]}")
