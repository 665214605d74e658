"""A release in one command: what it changes, what it refuses, and that nothing is left of one that failed."""

import subprocess
import tarfile
import zipfile

import pytest

from release import CHANGES, VERSION, look, release, with_section, with_version

LOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [0.1.0] - 2026-01-01\n\n- The first.\n"


@pytest.fixture
def clone(tmp_path):
    """A repository with the two files."""
    (tmp_path / "ecpolicy").mkdir()
    (tmp_path / VERSION).write_text('"""Words."""\n\n__version__ = "0.1.0"\n')
    (tmp_path / CHANGES).write_text(LOG)
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "All"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_version_and_change_log_are_those_of_the_release(clone):
    seen = []
    assert release(clone, "0.2.0", "2026-02-03", lambda root, version: seen.append((root, version)) or ["made"]) == [
        "made"
    ]
    assert seen == [(clone, "0.2.0")]
    assert (clone / VERSION).read_text() == '"""Words."""\n\n__version__ = "0.2.0"\n'
    assert (clone / CHANGES).read_text() == LOG.replace(
        "## [Unreleased]\n", "## [Unreleased]\n\n## [0.2.0] - 2026-02-03\n"
    )


@pytest.mark.parametrize("error", [subprocess.CalledProcessError(1, "build"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_release_that_failed(clone, error):
    def broken(root, version):
        assert '"1.0.0"' in (root / VERSION).read_text()
        raise error

    with pytest.raises(type(error)):
        release(clone, "1.0.0", "2026-02-03", broken)
    assert subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, check=True).stdout == b""


def test_a_tree_that_is_not_clean_is_refused(clone):
    (clone / "new.txt").touch()
    with pytest.raises(ValueError, match=r"not clean(.|\n)*new\.txt"):
        release(clone, "0.2.0", "2026-02-03", lambda root, version: pytest.fail("built"))
    assert (clone / CHANGES).read_text() == LOG


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "0.2", "v0.2.0", "0.2.0rc1"])
def test_a_version_that_is_no_later_one_is_refused(version):
    with pytest.raises(ValueError, match="The version must be"):
        with_version('__version__ = "0.1.0"\n', version)


def test_numbers_count_as_numbers():
    assert with_version('__version__ = "0.9.0"\n', "0.10.0") == '__version__ = "0.10.0"\n'


@pytest.mark.parametrize("text", ["# Changelog\n", LOG.replace("### Added\n\n- A thing.\n\n", "")])
def test_there_must_be_changes(text):
    with pytest.raises(ValueError, match="has nothing under"):
        with_section(text, "0.2.0", "2026-02-03")


def test_what_does_not_belong_into_a_wheel_is_found(tmp_path):
    wheel, sdist = tmp_path / "ecpolicy-0.2.0-py3-none-any.whl", tmp_path / "ecpolicy-0.2.0.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        archive.add(__file__, "ecpolicy-0.2.0/README.md")
    for names, said in (
        (["ecpolicy/a.py", "ecpolicy-0.2.0.dist-info/METADATA", "tests/a.py"], "holds .*'tests'"),
        (["ecpolicy/a.py", "ecpolicy-0.2.0.dist-info/METADATA"], r"tar\.gz lacks .*'LICENSE'"),
    ):
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in names:
                archive.writestr(name, "")
        with pytest.raises(ValueError, match=said):
            look(wheel, sdist)
