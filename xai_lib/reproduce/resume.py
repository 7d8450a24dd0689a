"""Long measurements over many inputs: what a killed run has finished is read again, not computed again."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

LIBRARY = Path(__file__).resolve().parents[1]


def resumed(
    name: str, settings: Mapping[str, Any], parts: Sequence[Any], compute: Callable[[Any], pd.DataFrame]
) -> pd.DataFrame:
    """The rows of `compute(part)` for all parts, in their order; each part is kept in a file as soon as it is done.

    The files lie in `XAI_DATA/results/NAME-KEY`. The key changes with the settings (numbers, strings and lists of
    them), the parts and the code of xai_lib, so that nothing measured otherwise is ever taken.
    """
    data = Path(os.environ.get("XAI_DATA") or LIBRARY.parent / "data" / "external")
    folder = data / "results" / f"{name}-{_key(settings, len(parts))}"
    folder.mkdir(parents=True, exist_ok=True)
    for i, part in enumerate(tqdm(parts, desc=name)):
        path = folder / f"{i:04d}.csv"
        if not path.exists():
            unfinished = path.with_suffix(f".{os.getpid()}")
            compute(part).to_csv(unfinished, index=False)
            unfinished.replace(path)
    return pd.concat([pd.read_csv(folder / f"{i:04d}.csv") for i in range(len(parts))], ignore_index=True)


def _key(settings: Mapping[str, Any], n_parts: int) -> str:
    digest = hashlib.sha256(json.dumps([dict(settings), n_parts], sort_keys=True).encode())
    for path in sorted(LIBRARY.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
