"""One page and one ledger for all notebooks of a profile, made from the files that their runs left behind."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

VERDICTS = ["reproduced", "not reproduced", "wrong as printed", "undecided", "not run"]
ROWS = 15  # of a table on the page; the rest is in its CSV file
WIDE = 1.75  # times its height: a figure that gets the width of the page

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=lambda name: name.endswith(".html"),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
)
_templates.filters["cell"] = lambda text: " ".join(str(text).split()).replace("|", "\\|")  # of a Markdown table


def read_results(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the ledger has written to a result folder: its figures and tables, and its claims, by name."""
    paths = (folder / "results.json", folder / "claims.json")
    results, claims = (json.loads(path.read_text(encoding="utf-8")) if path.exists() else {} for path in paths)
    return results, claims


def write_gallery(folder: Path) -> None:
    """Write `CLAIMS.md` and `index.html` for all results under `folder`."""
    notebooks = [_read_notebook(path) for path in sorted(folder.iterdir()) if (path / "run.json").exists()]
    counts = Counter(claim["verdict"] for notebook in notebooks for claim in notebook["claims"].values())
    content = {
        "profile": folder.name,
        "notebooks": notebooks,
        "counts": [(verdict, counts[verdict]) for verdict in VERDICTS if counts[verdict]],
    }
    for name in ("CLAIMS.md", "index.html"):
        aside = folder / f".{name}"
        aside.write_text(_templates.get_template(name).render(content), encoding="utf-8")
        aside.replace(folder / name)


def _read_notebook(folder: Path) -> dict[str, Any]:
    results, claims = read_results(folder)
    for name, entry in results.items():
        if entry["kind"] == "table":
            entry |= {"table": _shown_table(folder / f"{name}.csv"), "wide": True}
        else:
            width, height = _size(folder / f"{name}.png")
            entry |= {"size": (width, height), "wide": width > WIDE * height}
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return {"name": folder.name, "title": record["title"], "results": results, "claims": claims}


def _size(png: Path) -> tuple[int, int]:
    """Width and height in pixels; a photograph's figure may be absent, for it is not committed."""
    if not png.exists():
        return 0, 0
    with Image.open(png) as image:
        return image.size


def _shown_table(path: Path) -> dict[str, Any]:
    """Header and first rows, each entry with whether its column holds numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    shown = [[_shorter(text) for text in row] for row in rows[:ROWS]]
    numeric = [all(map(_is_number, column)) for column in zip(*rows, strict=True)] or [False] * len(header)
    return {
        "rows": [list(zip(row, numeric, strict=True)) for row in [header, *shown]],
        "left_out": len(rows) - len(shown),
    }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shorter(text: str) -> str:
    return f"{float(text):.4g}" if _is_number(text) and "." in text else text
