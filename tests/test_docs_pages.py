"""What readers of the documentation are spared: dead links, long stretches without a heading, too wide code."""

import csv
import re
import subprocess
from pathlib import Path

import pytest

from ecpolicy.pretrained_policies import pretrained_card, pretrained_ids

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *(DOCS / "explanation").glob("*.md")])
LINKED = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
LONGEST = 90  # lines without a heading: about two screens
WIDEST = 100  # characters of code: what fits beside the sidebars at 1,400 pixels


def name_of(path):
    return str(path.relative_to(ROOT))


def prose(path):
    """The page's lines with those of fenced code left empty."""
    return re.sub(r"^```.*?^```$", lambda found: "\n" * found[0].count("\n"), path.read_text(), flags=re.M | re.S)


def headings(path):
    """The depth, the text and the line of every heading."""
    lines = prose(path).split("\n")
    found = ((re.match(r"(#+) (.*)", line), number) for number, line in enumerate(lines))
    return [(len(heading[1]), heading[2], number) for heading, number in found if heading]


def anchors(path):
    """What may stand behind ``#`` in a link, as GitHub and Sphinx make it of headings."""
    names = set()
    for _, text, _ in headings(path):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).lower())
        names.add(plain.strip().replace(" ", "-"))
    return names


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_headings(path):
    found = headings(path)
    depths = [depth for depth, _, _ in found]
    assert (depths.count(1), depths[0], found[0][2]) == (1, 1, 0), "one title, in the first line"
    assert max(after - before for before, after in zip([1, *depths], depths, strict=False)) <= 1, "a level is skipped"
    lines = [line for _, _, line in found] + [path.read_text().count("\n")]
    stretches = {found[i][1]: lines[i + 1] - lines[i] for i in range(len(found))}
    assert {text: length for text, length in stretches.items() if length > LONGEST} == {}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_code_fits_the_page(path):
    text = path.read_text()
    code = "".join(re.findall(r"^```.*?\n(.*?)^```$", text, re.M | re.S))
    indented = re.findall(r"^    (\S.*)$", re.sub(r"^[-*\d].*(\n  .*)*", "", prose(path), flags=re.M), re.M)
    assert [line for line in [*code.splitlines(), *indented] if len(line) > WIDEST] == []


@pytest.mark.parametrize("path", sorted((DOCS / "tutorials").glob("*.py")), ids=name_of)
def test_code_of_tutorials_fits_the_page(path):
    code = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in code if len(line) > WIDEST and line[0] in " _abcdefghijklmnopqrstuvwxyz"] == []


@pytest.mark.parametrize("path", LINKED, ids=name_of)
def test_links_lead_somewhere(path):
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        if page == DOCS / "auto_tutorials" / "index.rst":  # which the build makes
            continue
        if not page.exists() or (anchor and anchor not in anchors(page)):
            dead.append(target)
    assert dead == []


def test_every_page_has_a_way_to_it():
    listed = set()
    for page in PAGES:
        for entries in re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text(), re.M | re.S):
            names = [line.strip() for line in entries.splitlines() if line.strip() and not line.startswith(":")]
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    assert set(PAGES) - listed == {DOCS / "index.md"}


def test_installing_is_said_on_one_page():
    """``-c constraints.txt`` and the index's name: elsewhere a link does, but for what reproduces a figure."""
    telling = [path.stem for path in PAGES if 'install "ecpolicy[' in path.read_text()]
    assert telling == ["install"]


def number(text):
    return float(text.replace(",", "").split(" ")[0])


@pytest.mark.parametrize(
    ("path", "first"),
    [
        (DOCS / "what_it_reaches.md", "environment | return"),
        (DOCS / "index.md", "task"),
        (ROOT / "README.md", "`pretrained:`"),
    ],
    ids=["what_it_reaches", "index", "README"],
)
def test_pretrained_policies_are_shown_with_what_they_earn(path, first):
    text = path.read_text().split(f"\n| {first} |", 1)[1].split("\n\n")[0]
    shown = re.findall(r"^\| (\S+-v\d) \| ([\d,]+) ± (\d+) \|(.*)$", text, re.M)
    assert {name for name, *_ in shown} | {"CartPole-v1"} == set(pretrained_ids())
    for name, mean, std, others in shown:
        card = pretrained_card(name)
        assert (number(mean), number(std)) == (round(card.return_mean), round(card.return_std))
        assert card.x_velocity is None or f" {card.x_velocity:.2f} " in others
        assert f" {card.n_env_steps / 1e6:.2g} million" in others.replace(".0 ", " ")


def test_the_robot_of_the_guide_is_the_one_that_comes_with_the_package():
    assert f"`{pretrained_card('Hopper-v5').command}`" in (DOCS / "robots.md").read_text()


def test_untuned_environments_are_shown_with_what_was_measured():
    with (ROOT / "benchmarks" / "studies" / "results" / "gains.csv").open() as file:
        table = list(csv.DictReader(file))
    text = (DOCS / "what_it_reaches.md").read_text().split("| environment | defaults | driven |")[1]
    shown = re.findall(r"^\| (\S+-v\d) \| ([-\d.,]*) \| ([-\d.,]*) \|", text, re.M)
    assert len(shown) > 10
    for name, default, driven in shown:
        scores = {row["settings"]: float(row["score"]) for row in table if row["env"] == name and row["seed"] == "0"}
        one = scores.get("weak, input 1, output 1", scores.get("weak, input 1"))
        for text, score in ((default, scores.get("paper")), (driven, one)):
            if text and score is not None:
                assert number(text) == round(score, len(text.partition(".")[2])), name


def test_nothing_that_is_built_is_kept():
    tracked = subprocess.run(["git", "ls-files", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not re.search(r"docs/(generated|auto_tutorials)/", tracked)
