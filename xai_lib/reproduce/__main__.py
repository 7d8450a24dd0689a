"""Rebuild the figures and tables of a profile (`make figures` calls this)."""

import argparse
import sys
from pathlib import Path

from xai_lib.reproduce.plan import REPOSITORY, Refused
from xai_lib.reproduce.runner import reproduce


def main(arguments: list[str] | None = None, root: Path = REPOSITORY) -> int:
    parser = argparse.ArgumentParser(prog="python -m xai_lib.reproduce", description=__doc__)
    parser.add_argument("--profile", default="embedded", help="smoke, embedded, sample, paper, or a YAML file's path")
    parser.add_argument("--notebook", help="one notebook (default: all)")
    parser.add_argument("--params", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of the notebooks")
    parser.add_argument("--jobs", type=int, help="notebooks at once (default: as many as the cores allow)")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="the longest a notebook may take")
    given = parser.parse_args(arguments)
    try:
        return reproduce(root, given.profile, given.notebook, given.params, given.jobs, given.timeout)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before any notebook has started
        return 130


if __name__ == "__main__":
    sys.exit(main())
