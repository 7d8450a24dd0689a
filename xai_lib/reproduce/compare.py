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

    The reference is the committed file, or the one that was there `before` where none is committed.
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
                ("not committed yet", "") if new else compare(path.read_bytes(), reference, entry["tolerance"])
            )
    for line in (
        git(root, "ls-tree", "--name-only", f"HEAD:./{folder.relative_to(root).as_posix()}") or b""
    ).splitlines():
        name, _, suffix = line.decode().rpartition(".")
        if suffix == "csv" and name not in report:
            report[name] = ("no longer written", "")
    return report


def compare(ours: bytes, reference: bytes, tolerance: float) -> tuple[str, str]:
    """Whether two CSV files are "identical", "within tolerance" or "different", and where they differ most.

    Differences are relative to the largest finite absolute value of a column in the reference.
    """
    if ours == reference:
        return "identical", ""
    new, old = (list(csv.reader(io.StringIO(content.decode()))) for content in (ours, reference))
    if new[:1] != old[:1] or [*map(len, new)] != [*map(len, old)]:
        shapes = (f"{len(table) - 1} rows of {', '.join(table[0])}" for table in (new, old))
        return "different", f"in shape: {'; '.join(shapes)}"
    largest, where = 0.0, "only in how numbers are written"
    for index, name in enumerate(old[0]):
        column = [row[index] for row in old[1:]]
        scale = max((abs(x) for x in map(_number, column) if math.isfinite(x)), default=0.0)
        for number, (row, before) in enumerate(zip(new[1:], column, strict=True), start=1):
            difference = _relative(row[index], before, scale)
            if difference > largest:
                largest = difference
                where = f"by {difference:.2g} in column {name}, row {number}: {row[index]}, was {before}"
    return ("within tolerance" if largest <= tolerance else "different"), where


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
