"""Run the benchmarks as `make figures` runs notebooks: memory that was freed stays with the process.

Otherwise the luck of the allocator decides the ratios.
"""

import os
import subprocess
import sys

from xai_lib.reproduce.runner import KEEP_MEMORY

command = [sys.executable, "-m", "pytest", "tests/benchmarks", "-q", "-s", *sys.argv[1:]]
sys.exit(subprocess.call(command, env=os.environ | KEEP_MEMORY))
