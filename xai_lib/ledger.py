"""Figures, tables and claims of a notebook, written so that a rebuild gives the same bytes.

Results go to the folder named by the environment variable `XAI_RUN` (set by `xai_lib.reproduce`), and to
`figures/interactive/` when a notebook is run by hand. `results.json` and `claims.json` in that folder
hold the captions and the ledger entries. A verdict is computed by one of the rules below, never typed in.
"""

import io
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

Verdict = Literal["reproduced", "undecided", "not reproduced", "wrong as printed"]  # from best to worst
Interval = Sequence[float]

DIGITS = 10  # significant digits of every stored float
DPI = 110
TOLERANCE = 1e-2  # of a column's largest absolute value


def save_figure(name: str, figure: Figure, caption: str, *, data: pd.DataFrame | None = None, paper: str = "") -> None:
    """Write a figure to `name.png` and the plotted numbers to `name.csv`, and show it once, with its caption.

    `paper` is the paper's own number or figure, to stand beside ours in the gallery. The figure is closed.
    """
    _check(isinstance(figure, Figure), f"figure must be a matplotlib Figure, got {type(figure).__name__}")
    if data is not None:
        _check_frame("data", data)
    _remove_earlier(name)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, bbox_inches="tight")
    # Without the opaque alpha channel a file is a tenth smaller, and without metadata it names no version.
    Image.open(drawn).convert("RGB").save(_folder() / f"{name}.png", optimize=True, dpi=(DPI, DPI))
    if data is not None:
        _write_csv(name, data)
    tolerance = None if data is None else TOLERANCE
    _update("results.json", name, {"kind": "figure", "caption": caption, "paper": paper, "tolerance": tolerance})
    display(figure)
    _show_caption(name, caption, paper)
    plt.close(figure)  # or the inline back end would show it a second time


def save_table(
    name: str, frame: pd.DataFrame, caption: str, *, paper: str = "", tolerance: float | None = None
) -> pd.DataFrame:
    """Write a table to `name.csv`, show its caption, and return it, so that it shows as the cell's result.

    `tolerance` is how far a rebuilt number may be from the committed one, relative to the largest absolute
    value of its column (default 1e-2). An index other than the default one is written as columns.
    """
    _check_frame("frame", frame)
    tolerance = TOLERANCE if tolerance is None else float(tolerance)
    _check(tolerance >= 0, f"tolerance must be a number of at least 0, got {tolerance}")
    _remove_earlier(name)
    _write_csv(name, frame)
    _update("results.json", name, {"kind": "table", "caption": caption, "paper": paper, "tolerance": tolerance})
    _show_caption(name, caption, paper)
    return frame


def _show_caption(name: str, caption: str, paper: str) -> None:
    in_paper = f" *In the paper: {paper.rstrip('.')}.*" if paper else ""
    display(Markdown(f"**{name}.** {caption}{in_paper}"))


def record_claim(
    id: str,
    statement: str,
    *,
    paper: str,
    ours: str | float = "",
    interval: Interval | None = None,
    verdict: Verdict | None = None,
    not_run: str | None = None,
) -> None:
    """Enter a claim of the paper into the ledger.

    `paper` is the paper's value, `ours` the one measured here, `interval` its uncertainty (low, high).
    Either `verdict` is given, computed by a rule, or `not_run`, the reason why there is none.
    """
    _check_name("id", id)
    _check((verdict is None) != (not_run is None), f"claim {id} needs either a verdict or not_run='the reason'")
    if verdict is not None:
        _check_verdict(verdict)
    shown = ours if isinstance(ours, str) else f"{ours:.4g}"
    ends = None
    if interval is not None:
        ends = [float(f"{end:.{DIGITS}g}") for end in _ends(interval)]
        shown = f"{shown} [{ends[0]:.4g}, {ends[1]:.4g}]".strip()
    entry = {
        "statement": statement,
        "paper": paper,
        "ours": shown,
        "interval": ends,
        "verdict": verdict or "not run",
        "not_run": not_run,
    }
    _update("claims.json", id, entry)


def show_ledger() -> pd.DataFrame:
    """The claims recorded so far, one row each, with whole sentences when shown in a notebook."""
    rows = [
        (id, entry["statement"], entry["paper"], entry["not_run"] or entry["ours"], entry["verdict"])
        for id, entry in _read(_folder() / "claims.json").items()
    ]
    return _Ledger(rows, columns=["claim", "statement", "paper", "ours", "verdict"])


def keep(name: str, compute: Callable[[], ArrayLike]) -> np.ndarray:
    """What `compute()` returns, or returned in an earlier attempt at the same run that was stopped.

    `xai_lib.reproduce` names a folder for it that belongs to the notebook, its parameters, the code and the data, and
    removes it when the notebook has run through. Elsewhere everything is computed.
    """
    _check_name("name", name)
    folder = os.environ.get("XAI_KEEP")
    if not folder:
        return np.asarray(compute())
    path = Path(folder) / f"{name}.npy"
    if not path.exists():
        values = np.asarray(compute())
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part.npy")
        np.save(aside, values, allow_pickle=False)
        aside.replace(path)
    return np.load(path)


# Rules: numbers in, verdict out.


def above(interval: Interval, threshold: float) -> Verdict:
    """Reproduced if the whole interval lies above the threshold, not reproduced if it lies below."""
    low, high = _ends(interval)
    if low > threshold:
        return "reproduced"
    return "not reproduced" if high < threshold else "undecided"


def below(interval: Interval, threshold: float) -> Verdict:
    """Reproduced if the whole interval lies below the threshold, not reproduced if it lies above."""
    low, high = _ends(interval)
    return above((-high, -low), -threshold)


def within(error: float, tolerance: float) -> Verdict:
    """Reproduced if an exact statement holds up to a numerical tolerance."""
    return "reproduced" if abs(error) <= tolerance else "not reproduced"


def refuted(violation: float, tolerance: float) -> Verdict:
    """Wrong as printed if a counter-example violates a statement by more than its numerical tolerance."""
    return "wrong as printed" if violation > tolerance else "reproduced"


def every(*verdicts: Verdict) -> Verdict:
    """The worst of several verdicts: a claim with parts is reproduced if every part is."""
    _check(bool(verdicts), "every() needs at least one verdict, got none")
    for verdict in verdicts:
        _check_verdict(verdict)
    return max(verdicts, key=get_args(Verdict).index)


class _Ledger(pd.DataFrame):
    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):  # pandas cuts a sentence at 50 characters
            return self.to_html(index=False)


def _folder() -> Path:
    # JupyterLab tells a kernel its notebook's path; without it all notebooks share one folder.
    notebook = Path(os.environ.get("JPY_SESSION_NAME", "")).stem
    interactive = Path(__file__).resolve().parents[1] / "figures" / "interactive" / notebook
    folder = Path(os.environ.get("XAI_RUN") or interactive)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _remove_earlier(name: str) -> None:
    _check_name("name", name)
    for suffix in (".png", ".csv"):
        (_folder() / f"{name}{suffix}").unlink(missing_ok=True)


def _update(file: str, key: str, entry: dict[str, Any]) -> None:
    path = _folder() / file
    text = json.dumps(_read(path) | {key: entry}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write_csv(name: str, frame: pd.DataFrame) -> None:
    frame.to_csv(
        _folder() / f"{name}.csv",
        index=not isinstance(frame.index, pd.RangeIndex),
        float_format=f"%.{DIGITS}g",
        na_rep="nan",
        lineterminator="\n",
    )


def _ends(interval: Interval) -> tuple[float, float]:
    ends = tuple(float(end) for end in interval)
    _check(len(ends) == 2 and not ends[0] > ends[1], f"interval must be (low, high), got {interval!r}")
    return ends


def _check(condition: bool, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence + ".")


def _check_name(argument: str, name: Any) -> None:
    fits = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
    _check(bool(fits), f"{argument} must consist of letters, digits, dots, dashes and underscores, got {name!r}")


def _check_frame(argument: str, frame: Any) -> None:
    _check(isinstance(frame, pd.DataFrame), f"{argument} must be a pandas DataFrame, got {type(frame).__name__}")


def _check_verdict(verdict: Any) -> None:
    known = get_args(Verdict)
    _check(verdict in known, f"verdict must be one of {', '.join(known)}, got {verdict!r}")
