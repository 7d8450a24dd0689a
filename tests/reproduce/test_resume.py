"""A killed measurement goes on where it stopped, and never takes what was measured otherwise."""

import pandas as pd
import pytest

from xai_lib.reproduce.resume import resumed


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_DATA", str(tmp_path))


class Measurement:
    """Squares of the numbers of a part; dies at the part `dies_at`."""

    def __init__(self, dies_at=None):
        self.dies_at, self.computed = dies_at, []

    def __call__(self, part):
        if part == self.dies_at:
            raise KeyboardInterrupt
        self.computed.append(part)
        return pd.DataFrame({"x": part, "square": [x**2 / 3 for x in part]})


PARTS = [[0, 1], [2], [3, 4]]


def test_a_killed_run_resumes_and_gives_the_same_rows():
    expected = pd.concat([Measurement()(part) for part in PARTS], ignore_index=True)
    killed, second, third = Measurement(dies_at=[2]), Measurement(), Measurement()
    with pytest.raises(KeyboardInterrupt):
        resumed("squares", {"n": 3}, PARTS, killed)
    pd.testing.assert_frame_equal(resumed("squares", {"n": 3}, PARTS, second), expected, check_exact=True)
    pd.testing.assert_frame_equal(resumed("squares", {"n": 3}, PARTS, third), expected, check_exact=True)
    assert killed.computed == PARTS[:1] and second.computed == PARTS[1:] and third.computed == []


@pytest.mark.parametrize("name, settings, parts", [("cubes", {"n": 3}, PARTS), ("squares", {"n": 4}, PARTS)])
def test_other_names_and_settings_start_anew(name, settings, parts):
    resumed("squares", {"n": 3}, PARTS, Measurement())
    again = Measurement()
    resumed(name, settings, parts, again)
    assert again.computed == parts
