"""Runs one notebook in a process of its own: `python -m xai_lib.reproduce.worker FOLDER`.

The runner starts it. `FOLDER/job.json` says what to run. Results appear in `FOLDER/results`; the notebook
as far as it came and, after a failure, `traceback.txt` appear beside it.
"""

import itertools
import json
import logging
import os
import re
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

from xai_lib.reproduce.processes import end_with


def main(folder: Path) -> int:
    """Run the notebook; 0 if every cell has run."""
    # Optional to jsonschema, which would spend most of the start-up on compiling a grammar of web addresses.
    sys.modules["rfc3987_syntax"] = None
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    results = folder / "results"
    threading.Thread(target=end_with, args=(job["runner"], results), daemon=True).start()

    source = Path(job["source"])
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    source_ids = {cell.get("id") for cell in cells}
    total = sum(cell["cell_type"] == "code" and bool(cell["source"]) for cell in cells) + bool(job["parameters"])
    executed = itertools.count(1)

    def report_progress(**_: Any) -> None:
        (folder / "progress").write_text(f"{next(executed)}/{total}")

    # Kernels that start side by side may pick the same TCP port and, without a connection file of their own,
    # the same sockets in the working directory.
    sockets = {"transport": "ipc", "connection_file": f"{job['scratch']}/kernel.json"}
    try:
        notebook = papermill.execute_notebook(
            source,
            folder / source.name,
            parameters=job["parameters"],
            kernel_name="python3",
            language="python",
            cwd=source.parent,
            progress_bar=False,
            start_timeout=300,  # a machine may be busy; a kernel that dies is noticed sooner
            config=Config({"KernelManager": sockets}),
            on_cell_executed=report_progress,
        )
    except Exception as error:
        failed = isinstance(error, PapermillExecutionError)
        reason = f"{error.ename}: {error.evalue}" if failed else f"{type(error).__name__}: {error}"
        text = f"{reason.splitlines()[0]}\n\n{traceback.format_exc()}"
        (folder / "traceback.txt").write_text(re.sub(r"\x1b\[[\d;]*m", "", text), encoding="utf-8")
        return 1

    seconds = [cell.metadata.papermill.duration for cell in notebook.cells if cell.cell_type == "code"]
    (folder / "seconds.json").write_text(json.dumps(seconds))
    nbformat.write(nbformat.from_dict(_without_traces(notebook, source_ids)), results / source.name)
    return 0


def _without_traces(notebook: dict[str, Any], source_ids: set[str | None]) -> dict[str, Any]:
    """The executed notebook without what differs between runs and machines: times, numbers, addresses, ids, folders."""
    kept = ("kernelspec", "language_info")
    notebook["metadata"] = {key: value for key, value in notebook["metadata"].items() if key in kept}
    root = os.environ["PYTHONPATH"].split(os.pathsep)[0]
    folders = "|".join(re.escape(f"{folder}/") for folder in (sys.prefix, root))
    # A kernel names its cells after a folder with its process number.
    changing = rf" at 0x[0-9a-f]+|{re.escape(tempfile.gettempdir())}/ipykernel_\d+/|{folders}"
    for number, cell in enumerate(notebook["cells"]):
        if "id" in cell and cell["id"] not in source_ids:  # injected by papermill
            cell["id"] = f"cell-{number}"
        for key in ("papermill", "execution"):
            cell["metadata"].pop(key, None)
        if cell["cell_type"] == "code":
            outputs = json.dumps(_joined(cell["outputs"]), ensure_ascii=False)
            cell["outputs"] = json.loads(re.sub(changing, "", outputs))
    return notebook


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Outputs with successive printed pieces joined per stream: how they are cut depends on timing."""
    joined = []
    for printed, group in itertools.groupby(outputs, lambda output: output["output_type"] == "stream"):
        pieces = list(group)
        if printed:
            text = {name: "".join(p["text"] for p in pieces if p["name"] == name) for name in ("stdout", "stderr")}
            pieces = [{"output_type": "stream", "name": name, "text": text[name]} for name in text if text[name]]
        joined += pieces
    return joined


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
