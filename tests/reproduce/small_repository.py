"""A notebook that can be told to fail, and what to look for afterwards."""

from pathlib import Path

import nbformat
import psutil

PARAMETERS = """
seed = 1
width = 0.5
names = ["a"]
mode = "fine"
marker = ""
"""

WORK = """
import os, sys, time, warnings
from pathlib import Path

if marker:
    Path(marker).write_text(str(os.getpid()))
if mode == "raise":
    raise ZeroDivisionError("on purpose")
if mode == "die":
    os._exit(1)
if mode == "sleep":
    time.sleep(600)
"""

NOISY = """
for number in range(3):
    print("out", number)
    print("err", number, file=sys.stderr)
    time.sleep(0.15)
warnings.warn("this names a temporary file")
print(sys.prefix + "/lib", file=sys.stderr)
object()
"""

RESULTS = """
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from xai_lib.ledger import above, record_claim, save_figure, save_table, show_ledger

numbers = pd.DataFrame({"x": range(5), "y": width * np.random.default_rng(seed).normal(size=5)})
figure, axes = plt.subplots()
axes.plot(numbers["x"], numbers["y"])
save_figure("fig-1", figure, "Noise & <more>", data=numbers, paper="0.4 | 0.5")
save_table("table-1", numbers, "The numbers", tolerance=1e-3)
record_claim("T-1", "Noise is | noisy", paper="0.4", ours=0.5, interval=(0.4, 0.6), verdict=above((0.4, 0.6), 0.3))
record_claim("T-2", "Noise has boxes", paper="0.7", not_run="there are no boxes")
show_ledger()
"""


def write_notebook(path: Path, *cells: str, parameters: str = PARAMETERS) -> None:
    new = nbformat.v4
    notebook = new.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells = [new.new_markdown_cell("# A test"), new.new_code_cell(parameters.strip())]
    notebook.cells += [new.new_code_cell(cell.strip()) for cell in cells]
    notebook.cells[1].metadata.tags = ["parameters"]
    for number, cell in enumerate(notebook.cells):
        cell.id = f"source-{number}"
    nbformat.write(notebook, path)


def processes_under(root: Path) -> list[psutil.Process]:
    """Processes that run for a notebook of this repository."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("XAI_RUN", "").startswith(str(root)):
                found.append(process)
        except psutil.Error:
            pass
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
