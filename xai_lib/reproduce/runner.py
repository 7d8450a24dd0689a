"""Executes what is out of date, several notebooks at a time, and puts whole results in place."""

import contextlib
import fcntl
import functools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xai_lib.reproduce.compare import compare_folder, git
from xai_lib.reproduce.gallery import read_results, write_gallery
from xai_lib.reproduce.plan import REPOSITORY, Job, Refused, folder_digest, plan, read_title, versions
from xai_lib.reproduce.processes import end_processes

THREADS = 2  # per notebook, whatever the machine: sums depend on how they are divided
# glibc: freed memory stays with the process. Otherwise each pass of a network may map its activations afresh, which
# takes up to a third of its time.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**40)}
POLL = 0.2  # seconds
TERMINAL = sys.stderr.isatty()


@dataclass
class Outcome:
    """How a notebook ended: "built", "up to date", "failed" or "not run"."""

    job: Job
    state: str = "up to date"
    seconds: float = 0.0
    message: str = ""
    before: dict[str, bytes] = field(default_factory=dict)  # CSV files that a new result has replaced


def reproduce(
    root: Path = REPOSITORY,
    profile: str = "embedded",
    notebook: str | None = None,
    assignments: Iterable[str] = (),
    at_once: int | None = None,
    timeout: float | None = None,
) -> int:
    """Build what is out of date, report, and return the exit status, 128 + n after signal n."""
    if at_once is not None and at_once < 1:
        raise Refused(f"The number of notebooks at once must be at least 1, got {at_once}.")
    jobs = plan(root, profile, notebook, assignments)
    if not jobs:
        raise Refused(f"There is no notebook in {root / 'notebooks'}.")
    folder = jobs[0].target.parent
    with _locked(folder), _signals() as received:
        _recover(folder)
        outcomes = _build(root, jobs, at_once or max(1, cores() // THREADS), timeout, received)
        write_gallery(folder)
        _print_table(outcomes)
        _print_comparison(root, outcomes)
    for outcome in outcomes:
        if outcome.message:
            print(outcome.message)
    if received:
        return 128 + received[0]
    return int(any(outcome.state == "failed" for outcome in outcomes))


def _build(root: Path, jobs: list[Job], at_once: int, timeout: float | None, received: list[int]) -> list[Outcome]:
    outcomes = {job.name: Outcome(job) for job in jobs}
    waiting = [job for job in jobs if not is_up_to_date(job)]
    running: list[Run] = []
    while (waiting and not received) or running:
        while waiting and not received and len(running) < at_once:
            running.append(Run(waiting.pop(0)))
        for run in list(running):
            run.show_progress()
            if received:
                reason = f"stopped by {signal.Signals(received[0]).name}"
            elif timeout and run.seconds > timeout:
                reason = f"stopped after {timeout:g} seconds (--timeout)"
            elif run.process.poll() is not None:
                reason = None
            else:
                continue
            running.remove(run)
            outcomes[run.job.name] = run.finish(root, reason)
        time.sleep(POLL)
    for job in waiting:
        outcomes[job.name].state = "not run"
    return list(outcomes.values())


class Run:
    """A notebook that is being executed by a worker, in a folder beside the one of its results."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.started = time.perf_counter()
        self.work = job.target.with_name(f".work-{job.name}")
        self.results = self.work / "results"
        self.results.mkdir(parents=True)
        self.kept = job.target.with_name(f".kept-{job.name}")  # by `ledger.keep`, across attempts at the same run
        # Short, because the path of a socket may have 104 characters at most.
        self.scratch = Path(tempfile.mkdtemp(prefix="xai-", dir="/tmp"))
        order = {
            "source": str(job.source),
            "parameters": job.overrides,
            "scratch": str(self.scratch),
            "runner": os.getpid(),
        }
        (self.work / "job.json").write_text(json.dumps(order), encoding="utf-8")
        with (self.work / "log.txt").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "xai_lib.reproduce.worker", str(self.work)],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the runner, which ends the worker
            )
        self.bar = tqdm(
            desc=job.name,
            unit="cell",
            disable=not TERMINAL,
            bar_format="{desc}: {n_fmt}/{total_fmt} cells {bar:20} {elapsed}",
        )
        if not TERMINAL:
            print(f"{job.name}: started", flush=True)

    def _environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
        if inherited.get("XAI_DATA"):  # perhaps relative to here, while a notebook runs in its own folder
            inherited["XAI_DATA"] = os.path.abspath(inherited["XAI_DATA"])
        path = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
        return inherited | {
            "XAI_RUN": str(self.results),
            "XAI_KEEP": str(self.kept / self.job.inputs),
            "XAI_HEADLESS": "1",
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONHASHSEED": "0",
            "PYTHONWARNINGS": "ignore:IProgress not found",  # Captum asks for widgets; nobody watches a bar here
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS)),
            **KEEP_MEMORY,
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS repeats itself only with this
            "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this interpreter, not one of the user's
            "IPYTHONDIR": str(self.scratch / "ipython"),  # neither start-up files nor a shared history
        }

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def show_progress(self) -> None:
        done, _, total = self._cells().partition("/")
        if total:
            self.bar.n, self.bar.total = int(done), int(total)
        self.bar.refresh()

    def _cells(self) -> str:
        progress = self.work / "progress"
        return progress.read_text() if progress.exists() else ""

    def finish(self, root: Path, stopped: str | None) -> Outcome:
        """End all processes, then put the results in place, or what there is where the message says."""
        self.process.kill()
        end_processes(self.results)
        status = self.process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.bar.close()
        cells = self._cells() or "0"
        succeeded = stopped is None and status == 0
        outcome = self._install(root) if succeeded else self._set_aside(stopped, status)
        if not TERMINAL:
            print(f"{self.job.name}: {outcome.state}, {cells} cells, {outcome.seconds:.1f} s", flush=True)
        return outcome

    def _install(self, root: Path) -> Outcome:
        target, seconds = self.job.target, self.seconds
        before = {path.name: path.read_bytes() for path in target.glob("*.csv")}
        cells = json.loads((self.work / "seconds.json").read_text())
        _write_json(self.results / "run.json", _run_record(root, self.job, seconds, cells))
        _write_json(self.results / ".stamp", _stamp(self.job, self.results))
        old = target.with_name(f".old-{target.name}")
        if target.exists():
            target.rename(old)
        self.results.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(self.work)
        shutil.rmtree(_failed(target), ignore_errors=True)
        shutil.rmtree(self.kept, ignore_errors=True)
        return Outcome(self.job, "built", seconds, before=before)

    def _set_aside(self, stopped: str | None, status: int) -> Outcome:
        trace = self.work / "traceback.txt"
        if not trace.exists():
            trace.write_text(f"{stopped or f'the worker ended with exit status {status}'}\n")
        reason = stopped or trace.read_text(encoding="utf-8").splitlines()[0]
        aside = _failed(self.job.target)
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        self.work.rename(aside)
        message = f"{self.job.name} failed: {reason} (log, traceback and notebook are in {aside})"
        return Outcome(self.job, "failed", self.seconds, message)


def _failed(target: Path) -> Path:
    return target.parent / ".failed" / target.name


def _stamp(job: Job, results: Path) -> dict[str, str]:
    return {"inputs": job.inputs, "outputs": folder_digest(results)}


def is_up_to_date(job: Job) -> bool:
    """Whether neither what the results depend on nor the results themselves have changed since they were built."""
    stamp = job.target / ".stamp"
    return stamp.exists() and json.loads(stamp.read_text()) == _stamp(job, job.target)


def _run_record(root: Path, job: Job, seconds: float, cells: list[float | None]) -> dict[str, Any]:
    commit = git(root, "rev-parse", "HEAD")
    changes = git(root, "status", "--porcelain", "--", ".", ":!figures")
    return {
        "notebook": job.name,
        "title": read_title(job.source),
        "parameters": job.parameters,
        "seed": job.parameters.get("seed"),
        "versions": versions(),
        "device": _device(),
        "threads": THREADS,
        "commit": commit and commit.decode().strip(),
        "uncommitted_changes": None if changes is None else bool(changes),
        "seconds": round(seconds, 2),
        "seconds_per_cell": [second and round(second, 2) for second in cells],
    }


@functools.cache
def _device() -> str:
    import torch  # here, because an up-to-date call should not wait for it

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refused(f"Another run is building {folder}; wait for it to end.") from error
        yield


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals received so far, which ask for an orderly end."""
    received: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _recover(folder: Path) -> None:
    """Tidy up after a killed runner: its processes, its work, and a result it was about to replace."""
    for work in folder.glob(".work-*"):
        end_processes(work / "results")
        shutil.rmtree(work)
    for old in folder.glob(".old-*"):
        target = old.with_name(old.name.removeprefix(".old-"))
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)


def _print_table(outcomes: list[Outcome]) -> None:
    rows = [("notebook", "state", "figures", "tables", "seconds", "claims")]
    for outcome in outcomes:
        row = (outcome.job.name, outcome.state)
        if outcome.state in ("built", "up to date"):
            results, claims = read_results(outcome.job.target)
            kinds = Counter(entry["kind"] for entry in results.values())
            verdicts = Counter(claim["verdict"] for claim in claims.values())
            row += (str(kinds["figure"]), str(kinds["table"]))
            row += (f"{outcome.seconds:.1f}" if outcome.seconds else "",)
            row += (", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())),)
        rows.append(row + ("",) * (6 - len(row)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_comparison(root: Path, outcomes: list[Outcome]) -> None:
    """Tables and the figures' numbers against the committed ones; what is identical is only counted."""
    identical = 0
    print()
    for outcome in outcomes:
        for name, (state, where) in compare_folder(root, outcome.job.target, outcome.before).items():
            identical += state == "identical"
            if state != "identical":
                print(f"{outcome.job.name}/{name}.csv: {state} {where}".rstrip())
    print(f"Against the committed tables (where there are none, against those before): {identical} identical.")
