"""Run the benchmarks as `make figures` runs notebooks: memory that was freed stays with the process.

Otherwise the luck of the allocator decides the ratios. `python -m tests.benchmarks -m hours` runs what takes hours.
"""

import os
import subprocess
import sys

from xai_lib.reproduce.runner import KEEP_MEMORY

asked = sys.argv[1:]
short = [] if {"-m", "-k"} & set(asked) else ["-m", "not hours"]
command = [sys.executable, "-m", "pytest", "tests/benchmarks", "-q", "-s", *asked, *short]
sys.exit(subprocess.call(command, env=os.environ | KEEP_MEMORY))
