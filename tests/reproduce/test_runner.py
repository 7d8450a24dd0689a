"""Building: what is out of date, whole results, and orderly ends."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from small_repository import contents, processes_under, write_notebook

from xai_lib.reproduce.plan import REPOSITORY, Refused, plan
from xai_lib.reproduce.runner import is_up_to_date, reproduce

FILES = {"01_full.ipynb", "claims.json", "fig-1.csv", "fig-1.png", "results.json", "run.json", "table-1.csv", ".stamp"}


def jobs(root, *assignments):
    return {job.name: job for job in plan(root, "embedded", None, assignments)}


def test_results_of_two_notebooks_at_once(built):
    results = built / "figures" / "embedded"
    assert set(contents(results / "01_full")) == FILES
    assert {path.name for path in results.iterdir()} == {"01_full", "02_fork", ".lock", "CLAIMS.md", "index.html"}
    assert not processes_under(built)


def test_run_record(built):
    record = json.loads((built / "figures/embedded/01_full/run.json").read_text())
    assert record["parameters"] == {"seed": 7, "width": 2.0, "names": ["a"], "mode": "fine", "marker": ""}
    assert record["seed"] == 7 and record["device"] and record["versions"]["torch"]
    assert record["commit"] is None  # not a repository
    assert record["seconds"] >= sum(filter(None, record["seconds_per_cell"]))


def test_a_fork_runs_with_its_own_defaults(built):
    executed = json.loads((built / "figures/embedded/02_fork/02_fork.ipynb").read_text())
    assert executed["cells"][2]["outputs"][0]["text"] == ["1\n"]


def test_executed_notebook_has_no_traces_of_time_and_machine(built):
    text = (built / "figures/embedded/01_full/01_full.ipynb").read_text()
    executed = json.loads(text)
    assert "papermill" not in executed["metadata"] and "start_time" not in text and "ipykernel_" not in text
    assert executed["cells"][2]["source"] == ["# Parameters\n", "seed = 7\n", "width = 2.0\n"]
    streams = [output["name"] for output in executed["cells"][4]["outputs"] if "name" in output]
    assert streams == ["stdout", "stderr"] and sys.prefix not in text and str(built) not in text
    figures = [output for output in executed["cells"][5]["outputs"] if "image/png" in output.get("data", {})]
    assert len(figures) == 1


def test_a_rebuild_gives_the_same_bytes(root):
    folder = root / "figures" / "embedded"
    before = contents(folder)
    (folder / "01_full" / ".stamp").unlink()
    assert reproduce(root) == 0
    after = contents(folder)
    differing = {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()
    assert differing == {"01_full/run.json", "01_full/.stamp"}


def test_what_has_not_changed_is_not_built(root, capsys):
    before = contents(root / "figures")
    assert reproduce(root) == 0
    assert contents(root / "figures") == before
    assert capsys.readouterr().out.count("up to date") == 2


def command(root, *arguments):
    """`python -m xai_lib.reproduce` for another repository."""
    call = "import pathlib, sys; from xai_lib.reproduce.__main__ import main; "
    call += "sys.exit(main(sys.argv[2:], pathlib.Path(sys.argv[1])))"
    return [sys.executable, "-c", call, str(root), *arguments]


def append(path, text):
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (lambda root: append(root / "notebooks/02_fork.ipynb", "\n"), {"02_fork"}),
        (lambda root: append(root / "notebooks/profiles/embedded.yaml", "02_fork: {seed: 2}\n"), {"02_fork"}),
        (lambda root: append(root / "notebooks/profiles/embedded.yaml", "02_fork: {seed: 1}\n"), set()),
        (lambda root: append(root / "xai_lib/method.py", "!"), {"01_full", "02_fork"}),
        (lambda root: append(root / "data/weights.safetensors", "!"), {"01_full", "02_fork"}),
        (lambda root: append(root / "figures/embedded/01_full/table-1.csv", "0,0\n"), {"01_full"}),
        (lambda root: (root / "figures/embedded/01_full/fig-1.png").unlink(), {"01_full"}),
        (lambda root: (root / "figures/embedded/02_fork/.stamp").unlink(), {"02_fork"}),
        (lambda root: os.utime(root / "notebooks/01_full.ipynb"), set()),
        (lambda root: (root / "data/external").mkdir(), set()),
    ],
    ids=[
        "notebook",
        "profile",
        "a default",
        "library",
        "weights",
        "table",
        "no figure",
        "clone",
        "touch",
        "external data",
    ],
)
def test_what_has_changed_is_built(root, change, stale):
    change(root)
    assert {name for name, job in jobs(root).items() if not is_up_to_date(job)} == stale


def test_the_place_of_real_data_counts(root, monkeypatch):
    monkeypatch.setenv("XAI_DATA", "/elsewhere")
    assert not is_up_to_date(jobs(root)["01_full"])


@pytest.mark.parametrize(
    ("mode", "reason"), [("raise", "ZeroDivisionError: on purpose"), ("die", "DeadKernelError"), ("sleep", "8 seconds")]
)
def test_a_failure_leaves_earlier_results_and_a_traceback(root, capsys, mode, reason):
    folder = root / "figures" / "embedded"
    before = contents(folder / "01_full")
    assert reproduce(root, assignments=[f"mode={mode}"], timeout=8 if mode == "sleep" else None) == 1
    printed = capsys.readouterr().out
    aside = folder / ".failed" / "01_full"
    assert f"01_full failed: {reason}" in printed.replace("stopped after ", "")
    assert str(aside) in printed
    assert reason in (aside / "traceback.txt").read_text().replace("stopped after ", "")
    assert (aside / "log.txt").exists()
    assert contents(folder / "01_full") == before
    assert {path.name for path in folder.iterdir()} >= {"02_fork", "index.html"}
    assert not list(folder.glob(".work-*")) and not processes_under(root)


def test_a_second_attempt_resumes(root, tmp_path):
    """The first attempt ends after its first result, the second finds that and computes only the other."""
    kept = root / "figures" / "embedded" / ".kept-03_keep"
    compute = f"""
from pathlib import Path
from xai_lib.ledger import keep

def compute():
    with Path({str(tmp_path / "log")!r}).open("a") as log:
        log.write("x")
    return [1.0, 2.0]

assert keep("first", compute).sum() == 3
"""
    stop = f"assert Path({str(tmp_path / 'go')!r}).exists()"
    write_notebook(
        root / "notebooks" / "03_keep.ipynb", compute, stop, "keep('second', compute)", parameters="seed = 1"
    )
    assert reproduce(root, notebook="03_keep") == 1
    assert [path.name for path in kept.rglob("*.npy")] == ["first.npy"]
    (tmp_path / "go").touch()
    assert reproduce(root, notebook="03_keep") == 0
    assert (tmp_path / "log").read_text() == "xx" and not kept.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_kernel(root, tmp_path, number):
    folder = root / "figures" / "embedded"
    before = contents(folder / "01_full")
    marker = tmp_path / "kernel"
    runner = subprocess.Popen(command(root, "--params", "mode=sleep", f"marker={marker}"), cwd=REPOSITORY)
    wait_for(lambda: marker.exists() and marker.read_text())
    assert len(processes_under(root)) == 2  # worker and kernel
    runner.send_signal(number)
    assert runner.wait(30) == (128 + number if number != signal.SIGKILL else -number)
    if number == signal.SIGKILL:  # the worker sees within half a second that the runner is gone
        wait_for(lambda: not processes_under(root))
        assert list(folder.glob(".work-*"))
        assert reproduce(root) == 0
    assert not processes_under(root) and not psutil.pid_exists(int(marker.read_text()))
    assert contents(folder / "01_full") == before
    assert not list(folder.glob(".work-*"))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_a_result_about_to_be_replaced_is_recovered(root):
    folder = root / "figures" / "embedded"
    before = contents(folder / "01_full")
    (folder / "01_full").rename(folder / ".old-01_full")
    assert reproduce(root) == 0
    assert contents(folder / "01_full") == before and not (folder / ".old-01_full").exists()


def test_no_notebooks_at_once_is_refused(root):
    with pytest.raises(Refused, match="must be at least 1, got 0"):
        reproduce(root, at_once=0)


def test_two_runs_do_not_meet(root):
    with (root / "figures/embedded/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="Another run"):
            reproduce(root)


def test_command_line_refuses_in_one_sentence(root):
    done = subprocess.run(command(root, "--profile", "embeded"), cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "Unknown profile 'embeded'; known are embedded.\n"
    assert not (root / "figures" / "embeded").exists()


def test_own_profile_writes_to_a_folder_of_its_name(root, tmp_path):
    (tmp_path / "mine.yaml").write_text("02_fork: {seed: 3}\n")
    write_notebook(root / "notebooks" / "02_fork.ipynb", "seed", parameters="seed = 1")
    (job,) = plan(root, str(tmp_path / "mine.yaml"), "02_fork", [])
    assert job.target == root / "figures" / "mine" / "02_fork" and job.overrides == {"seed": 3}
