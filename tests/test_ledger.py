"""What a notebook writes: same numbers, same bytes; rules; refusals."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from xai_lib import ledger
from xai_lib.ledger import (
    above,
    below,
    every,
    keep,
    record_claim,
    refuted,
    save_figure,
    save_table,
    show_ledger,
    within,
)

FRAME = pd.DataFrame({"name": ["a", "b", "c", "d"], "value": [1 / 3, np.inf, np.nan, -np.inf], "count": [1, 2, 3, 4]})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_RUN", str(tmp_path / "run"))
    return tmp_path / "run"


def figure(height=1.0):
    made, axes = plt.subplots()
    axes.plot([0, height])
    return made


def test_table_round_trips(folder):
    assert save_table("table-1", FRAME, "Numbers") is FRAME
    assert (folder / "table-1.csv").read_text() == "name,value,count\na,0.3333333333,1\nb,inf,2\nc,nan,3\nd,-inf,4\n"
    pd.testing.assert_frame_equal(pd.read_csv(folder / "table-1.csv"), FRAME, rtol=1e-9)


def test_index_with_names_is_kept(folder):
    save_table("table-1", FRAME.set_index("name"), "Numbers")
    assert (folder / "table-1.csv").read_text().startswith("name,value,count\na,0.3333333333,1\n")


def test_same_numbers_same_bytes(folder):
    written = []
    for _ in range(2):
        save_figure("fig-1", figure(), "A line", data=FRAME, paper="Figure 1")
        save_table("table-1", FRAME, "Numbers", tolerance=1e-3)
        record_claim("C-1", "It holds", paper="yes", ours=1 / 3, interval=(0.1, np.inf), verdict=above((1, 2), 0))
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"fig-1.png", "fig-1.csv", "table-1.csv", "results.json", "claims.json"}
    assert b"atplotlib" not in written[0]["fig-1.png"]
    assert json.loads(written[0]["results.json"]) == {
        "fig-1": {"kind": "figure", "caption": "A line", "paper": "Figure 1", "tolerance": 1e-2},
        "table-1": {"kind": "table", "caption": "Numbers", "paper": "", "tolerance": 1e-3},
    }
    assert json.loads(written[0]["claims.json"])["C-1"] == {
        "statement": "It holds",
        "paper": "yes",
        "ours": "0.3333 [0.1, inf]",
        "interval": [0.1, np.inf],
        "verdict": "reproduced",
        "not_run": None,
    }


def test_a_second_result_replaces_the_first(folder):
    save_figure("both", figure(), "A line", data=FRAME)
    save_table("both", FRAME, "Numbers")
    assert not (folder / "both.png").exists() and (folder / "both.csv").exists()
    assert json.loads((folder / "results.json").read_text())["both"]["kind"] == "table"


def test_figure_is_shown_once_with_its_caption_and_closed(monkeypatch):
    shown = []
    monkeypatch.setattr(ledger, "display", shown.append)
    made = figure()
    assert save_figure("fig-1", made, "A line.", paper="Figure 1") is None
    assert shown[0] is made and shown[1].data == "**fig-1.** A line. *In the paper: Figure 1.*" and len(shown) == 2
    assert not plt.fignum_exists(made.number)


def test_ledger_shows_whole_sentences():
    statement = "A sentence that is longer than the fifty characters at which pandas cuts a text"
    record_claim("C-1", statement, paper="0.4", ours="0.5", verdict=within(0, 1))
    record_claim("C-2", "Boxes", paper="0.6", not_run="there are no boxes")
    shown = show_ledger()
    assert list(shown["claim"]) == ["C-1", "C-2"]
    assert list(shown["ours"]) == ["0.5", "there are no boxes"]
    assert statement in shown._repr_html_()


def test_interactive_results_are_kept_per_notebook(monkeypatch, tmp_path):
    monkeypatch.delenv("XAI_RUN")
    monkeypatch.setenv("JPY_SESSION_NAME", "/somewhere/notebooks/03_blur_ig.ipynb")
    monkeypatch.setattr(ledger, "__file__", str(tmp_path / "xai_lib" / "ledger.py"))
    save_table("table-1", FRAME, "Numbers")
    assert (tmp_path / "figures" / "interactive" / "03_blur_ig" / "table-1.csv").exists()


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (above((1, 2), 0.5), "reproduced"),
        (above((1, 2), 1.5), "undecided"),
        (above((1, 2), 2.5), "not reproduced"),
        (above((1, 2), 1), "undecided"),
        (above((np.nan, np.nan), 1), "undecided"),
        (below((1, 2), 2.5), "reproduced"),
        (below((1, 2), 1.5), "undecided"),
        (below((1, 2), 0.5), "not reproduced"),
        (within(-1e-7, 1e-6), "reproduced"),
        (within(1e-5, 1e-6), "not reproduced"),
        (within(np.nan, 1e-6), "not reproduced"),
        (refuted(0.1, 1e-6), "wrong as printed"),
        (refuted(1e-7, 1e-6), "reproduced"),
        (every("reproduced", "undecided"), "undecided"),
        (every("undecided", "not reproduced", "reproduced"), "not reproduced"),
        (every("wrong as printed", "not reproduced"), "wrong as printed"),
    ],
)
def test_rules(verdict, expected):
    assert verdict == expected


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: save_table("a/b", FRAME, "x"), "name must consist of letters"),
        (lambda: save_table("t", [1, 2], "x"), "frame must be a pandas DataFrame, got list"),
        (lambda: save_table("t", FRAME, "x", tolerance=-1), "tolerance must be a number of at least 0"),
        (lambda: save_figure("f", plt, "x"), "figure must be a matplotlib Figure, got module"),
        (lambda: save_figure("f", figure(), "x", data={}), "data must be a pandas DataFrame, got dict"),
        (lambda: record_claim("C 1", "x", paper="", verdict="reproduced"), "id must consist of letters"),
        (lambda: record_claim("C", "x", paper=""), "claim C needs either a verdict or not_run"),
        (lambda: record_claim("C", "x", paper="", verdict="reproduced", not_run="y"), "claim C needs either"),
        (lambda: record_claim("C", "x", paper="", verdict="true"), "verdict must be one of reproduced, undecided"),
        (
            lambda: record_claim("C", "x", paper="", verdict="undecided", interval=(2, 1)),
            "interval must be (low, high)",
        ),
        (lambda: above((1, 2, 3), 0), "interval must be (low, high), got (1, 2, 3)"),
        (lambda: every(), "every() needs at least one verdict"),
    ],
)
def test_refusals_leave_nothing_behind(folder, call, sentence):
    with pytest.raises(ValueError) as refused:
        call()
    assert sentence in str(refused.value)
    assert not folder.exists()


def test_numbers_are_kept_where_the_runner_says(tmp_path, monkeypatch):
    made = []

    def compute():
        made.append(1)
        return np.arange(6.0).reshape(2, 3)

    monkeypatch.delenv("XAI_KEEP", raising=False)
    for _ in range(2):
        np.testing.assert_array_equal(keep("scores", compute), np.arange(6.0).reshape(2, 3))
    assert len(made) == 2
    monkeypatch.setenv("XAI_KEEP", str(tmp_path / "kept"))
    for _ in range(2):
        np.testing.assert_array_equal(keep("scores", compute), np.arange(6.0).reshape(2, 3))
    assert len(made) == 3 and [path.name for path in (tmp_path / "kept").iterdir()] == ["scores.npy"]
    with pytest.raises(ValueError, match="name must consist"):
        keep("a/b", compute)
