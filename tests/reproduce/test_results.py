"""The page, the ledger and the comparison with committed tables."""

import subprocess

import pytest

from xai_lib.reproduce.compare import compare, compare_folder
from xai_lib.reproduce.gallery import write_gallery


def test_ledger_of_all_notebooks(built):
    text = (built / "figures/embedded/CLAIMS.md").read_text()
    assert "- reproduced: 1\n- not run: 1\n" in text
    assert "| T-1 | Noise is \\| noisy | 0.4 | 0.5 [0.4, 0.6] | reproduced |\n" in text
    assert "| T-2 | Noise has boxes | 0.7 | there are no boxes | not run |\n" in text


def test_gallery_shows_everything_and_needs_nothing(built):
    page = (built / "figures/embedded/index.html").read_text()
    for part in ("Noise &amp; &lt;more&gt;", "01_full/fig-1.png", "01_full/table-1.csv", "0.4 | 0.5", "T-1"):
        assert part in page
    assert "<script" not in page and "://" not in page


def test_gallery_without_results(tmp_path):
    write_gallery(tmp_path)
    assert "No claims" in (tmp_path / "CLAIMS.md").read_text()


TABLE = b"name,x,y\na,1,10\nb,2,inf\nc,nan,-40\n"


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (TABLE, ("identical", "")),
        (TABLE.replace(b"-40", b"-40.2"), ("within tolerance", "by 0.005 in column y, row 3: -40.2, was -40")),
        (TABLE.replace(b"10", b"12"), ("different", "by 0.05 in column y, row 1: 12, was 10")),
        (TABLE.replace(b"inf", b"-inf"), ("different", "by inf in column y, row 2: -inf, was inf")),
        (TABLE.replace(b"nan", b"3"), ("different", "by inf in column x, row 3: 3, was nan")),
        (TABLE.replace(b"a,1", b"d,1"), ("different", "by inf in column name, row 1: d, was a")),
        (TABLE.replace(b"y\n", b"z\n"), ("different", "in shape: 3 rows of name, x, z; 3 rows of name, x, y")),
        (TABLE + b"d,1,1\n", ("different", "in shape: 4 rows of name, x, y; 3 rows of name, x, y")),
        (TABLE.replace(b"10", b"10.0"), ("within tolerance", "only in how numbers are written")),
    ],
)
def test_comparison(ours, expected):
    assert compare(ours, TABLE, 1e-2) == expected


def test_reference_is_the_committed_table(root):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)

    folder = root / "figures" / "embedded" / "01_full"
    earlier = {"table-1.csv": b"x,y\n1,1\n"}
    assert compare_folder(root, folder, {})["table-1"] == ("not committed yet", "")
    assert compare_folder(root, folder, earlier)["table-1"][0] == "different"
    git("init")
    git("add", "--force", str(folder / "table-1.csv"))
    git("commit", "-m", "a table")
    assert compare_folder(root, folder, earlier)["table-1"] == ("identical", "")
    (folder / "results.json").write_text("{}")  # as after a rebuild that no longer makes the table
    assert compare_folder(root, folder, {})["table-1"] == ("no longer written", "")
