"""Rebuilt tables against the committed ones."""

import csv
import io
import math
import subprocess
from pathlib import Path

from xai_lib.reproduce.gallery import read_results


def git(root: Path, *arguments: str) -> bytes | None:
    """What git prints, or None where there is no git, no repository or no such object."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def compare_folder(root: Path, folder: Path, before: dict[str, bytes]) -> dict[str, tuple[str, str]]:
    """For every result with numbers: how it compares, and where it differs most.

    The reference is the committed file, or the one that was there ``before`` where none is committed.
    """
    report = {}
    results, _ = read_results(folder)
    for name, entry in results.items():
        path = folder / f"{name}.csv"
        if path.exists():
            committed = git(root, "show", f"HEAD:./{path.relative_to(root).as_posix()}")
            reference = before.get(path.name) if committed is None else committed
            new = reference is None
            report[name] = (
                ("not committed yet", "")
                if new
                else compare(path.read_bytes(), reference, entry["tolerance"])
            )
    return report


def compare(ours: bytes, reference: bytes, tolerance: float) -> tuple[str, str]:
    """Whether two CSV files are "identical", "within tolerance" or "different", and where they differ most.

    Differences are relative to the largest finite absolute value of a column in the reference.
    """
    if ours == reference:
        return "identical", ""
    new, old = (list(csv.reader(io.StringIO(content.decode()))) for content in (ours, reference))
    if new[0] != old[0] or len(new) != len(old):
        return "different", f"in shape: {len(new) - 1} rows of {new[0]}, were {len(old) - 1} of {old[0]}"
    largest, where = 0.0, ""
    for name, ours_column, column in zip(
        old[0], zip(*new[1:], strict=True), zip(*old[1:], strict=True), strict=True
    ):
        scale = max((abs(x) for x in map(_number, column) if math.isfinite(x)), default=0.0)
        for row, (a, b) in enumerate(zip(ours_column, column, strict=True), start=1):
            difference = _relative(a, b, scale)
            if difference > largest:
                largest, where = difference, f"in column {name}, row {row}: {a}, was {b}"
    return ("within tolerance" if largest <= tolerance else "different"), f"by {largest:.2g} {where}"


def _relative(ours: str, reference: str, scale: float) -> float:
    if ours == reference:
        return 0.0
    difference = abs(_number(ours) - _number(reference))
    return difference / scale if math.isfinite(difference) and scale else math.inf


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
