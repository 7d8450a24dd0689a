"""Refusals come before anything runs, in one sentence."""

import pytest
from small_repository import PARAMETERS, write_notebook

from xai_lib.reproduce.plan import Refused, plan, read_parameters


@pytest.fixture
def root(tmp_path):
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    (tmp_path / "notebooks" / "profiles" / "embedded.yaml").write_text("")
    write_notebook(tmp_path / "notebooks" / "01_full.ipynb")
    return tmp_path


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("seed=3", 3),
        ("width=3", 3.0),
        ("width=1e-3", 1e-3),
        ("names=['b', 'c']", ["b", "c"]),
        ("names=[b, c]", ["b", "c"]),
        ("mode=fast", "fast"),
        ("mode=5", "5"),
        ("mode=a: b: c", "a: b: c"),
        ("marker=/a/b c", "/a/b c"),
    ],
)
def test_parameters_are_merged(root, assignment, expected):
    (job,) = plan(root, "embedded", None, [assignment])
    name = assignment.split("=")[0]
    assert job.overrides == {name: expected} and type(job.overrides[name]) is type(expected)
    assert job.parameters == read_parameters(job.source) | job.overrides


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("sed=3", "Unknown parameter 'sed' of 01_full; known are seed."),
        ("seed=1e3", "01_full: parameter seed must be of type int, like its default 1, got 1000.0 of type float."),
        ("seed=True", "parameter seed must be of type int, like its default 1, got True of type bool."),
        ("width=yes", "parameter width must be of type float, like its default 0.5, got True of type bool."),
        ("names=b", "parameter names must be of type list"),
        ("names=[1]", "parameter names must be of type list"),
        ("seed=[1", "The value of parameter seed cannot be read: '[1'."),
        ("seed", "A parameter is given as name=value, got 'seed'."),
    ],
)
def test_wrong_parameters_are_refused(root, assignment, sentence):
    with pytest.raises(Refused) as refused:
        plan(root, "embedded", None, [assignment])
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("01_ful: {}", "Unknown notebook '01_ful' in profile embedded; known are 01_full."),
        ("01_full: {sede: 1}", "Unknown parameter 'sede' of 01_full; known are seed."),
        ("01_full: {seed: one}", "01_full: parameter seed must be of type int"),
        ("01_full: [seed]", "must map notebooks to parameters"),
        ("- 01_full", "must map notebooks to parameters"),
        ("01_full: {seed", "must map notebooks to parameters"),
    ],
)
def test_wrong_profiles_are_refused(root, text, sentence):
    (root / "notebooks" / "profiles" / "embedded.yaml").write_text(text)
    with pytest.raises(Refused) as refused:
        plan(root, "embedded", None, [])
    assert sentence in str(refused.value)


def test_unknown_names_are_refused_with_the_nearest(root):
    with pytest.raises(Refused, match=r"Unknown notebook '01_fool'; known are 01_full\."):
        plan(root, "embedded", "01_fool", [])
    with pytest.raises(Refused, match=r"Unknown profile 'embeded'; known are embedded\."):
        plan(root, "embeded", None, [])
    with pytest.raises(Refused, match=r"The profile mine\.yaml does not exist\."):
        plan(root, "mine.yaml", None, [])


def test_own_profile_must_not_overwrite_a_built_in_one(root, tmp_path):
    (tmp_path / "embedded.yaml").write_text("")
    with pytest.raises(Refused, match="must not bear the name"):
        plan(root, str(tmp_path / "embedded.yaml"), None, [])


@pytest.mark.parametrize("line", ["import os", "half = seed / 2", "scale = float('inf')", "a = b = 1", "a, b = 1, 2"])
def test_parameters_are_literals(root, line):
    write_notebook(root / "notebooks" / "01_full.ipynb", parameters=PARAMETERS + line)
    with pytest.raises(Refused, match="01_full: the parameters cell may only hold assignments of literals"):
        plan(root, "embedded", None, [])


def test_a_broken_notebook_is_refused(root):
    (root / "notebooks" / "02_broken.ipynb").write_text("{")
    with pytest.raises(Refused, match="is not a notebook"):
        plan(root, "embedded", None, [])
