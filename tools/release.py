"""Cut a release: version, change log, wheel and sdist, tried from an empty folder. Nothing is committed or uploaded.

    python tools/release.py 0.2.0

The working tree must be clean. The section [Unreleased] of CHANGELOG.md becomes that of the version, build makes wheel
and sdist in dist/, twine looks at both, and the wheel is installed into a new environment, where it trains CartPole-v1.
Where a step fails, the two files are as they were. What is left to be done by hand is printed.
"""

import argparse
import datetime
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSION, CHANGES = Path("ecpolicy") / "version.py", Path("CHANGELOG.md")
UNRELEASED = "## [Unreleased]\n"
TRAINING = ["train", "CartPole-v1", "--seed", "0"]  # of ``ecpolicy --help``
SOLVED = 475
SHIPPED = [
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "constraints.txt",
    "tests/conftest.py",
    "docs/conf.py",
]  # in the sdist


def main() -> None:
    """Cut the release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="three numbers, such as 0.2.0")
    version = parser.parse_args().version
    try:
        made = release(ROOT, version, datetime.datetime.now(datetime.UTC).date().isoformat(), built_and_tried)
    except (ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"release.py: error: {error}")
    print(f"\nMade {', '.join(str(file.relative_to(ROOT)) for file in made)}. To publish:")
    print(f'  git commit -am "Release {version}" && git tag v{version} && git push origin HEAD v{version}')
    print(f"  python -m twine upload {' '.join(str(file.relative_to(ROOT)) for file in made)}")


def release(root: Path, version: str, date: str, build: Callable[[Path, str], list[Path]]) -> list[Path]:
    """Change both files and build; they are restored where that fails.

    Raises
    ------
    ValueError
        Where the working tree is not clean, the version not a later one, or nothing has changed since the last one.
    """
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    if changed:
        raise ValueError(f"The working tree is not clean: commit or remove what git status shows.\n{changed.rstrip()}")
    before = {file: (root / file).read_text() for file in (VERSION, CHANGES)}
    after = {VERSION: with_version(before[VERSION], version), CHANGES: with_section(before[CHANGES], version, date)}
    try:
        for file, text in after.items():
            (root / file).write_text(text)
        return build(root, version)
    except BaseException:
        for file, text in before.items():
            (root / file).write_text(text)
        raise


def with_version(text: str, version: str) -> str:
    """The file of the version with another one, which must be later."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ValueError(f"The version must be three numbers, such as 0.2.0; got {version!r}.")
    (now,) = re.findall(r'^__version__ = "(.*)"$', text, re.M)
    if [int(n) for n in version.split(".")] <= [int(n) for n in now.split(".")]:
        raise ValueError(f"The version must be later than {now}; got {version}.")
    return text.replace(f'"{now}"', f'"{version}"')


def with_section(text: str, version: str, date: str) -> str:
    """The change log with what is unreleased under a version and a date."""
    before, unreleased, rest = text.partition(UNRELEASED)
    if not unreleased or not re.split(r"^## ", rest, maxsplit=1, flags=re.M)[0].strip():
        raise ValueError(f"{CHANGES} has nothing under {UNRELEASED.strip()}.")
    return f"{before}{UNRELEASED}\n## [{version}] - {date}\n{rest}"


def built_and_tried(root: Path, version: str) -> list[Path]:
    """Wheel and sdist in ``dist``, tried out."""
    files = [root / "dist" / f"ecpolicy-{version}{end}" for end in ("-py3-none-any.whl", ".tar.gz")]
    with tempfile.TemporaryDirectory() as folder:
        tools, fresh, empty = (Path(folder) / name for name in ("tools", "fresh", "empty"))
        python = environment(tools, "build", "twine")
        run(python, "-m", "build", "--outdir", root / "dist", root)
        run(python, "-m", "twine", "check", "--strict", *files)
        look(*files)
        python = environment(fresh, "-c", root / "constraints.txt", files[0])
        empty.mkdir()
        command = python.with_name("ecpolicy")
        said = run(command, "--version", cwd=empty)
        if said.split() != ["ecpolicy", version]:
            raise ValueError(f"The wheel says that it is {said.strip()}.")
        said = run(command, *TRAINING, cwd=empty)
        if float(re.findall(r"^return mean: (.*)$", said, re.M)[0]) < SOLVED:
            raise ValueError(f"The wheel does not learn CartPole-v1:\n{said}")
    return files


def look(wheel: Path, sdist: Path) -> None:
    """Raise ValueError unless both hold what they should."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/")[0] for name in archive.namelist()}
        if names != {"ecpolicy", f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"}:
            raise ValueError(f"{wheel.name} holds {sorted(names)}.")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        if not names.issuperset(SHIPPED):
            raise ValueError(f"{sdist.name} lacks {sorted(set(SHIPPED) - names)}.")


def environment(folder: Path, *packages: object) -> Path:
    """A new environment with these packages; its Python."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "-q", *packages)
    return python


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a command, which is printed, without this environment's packages; what it says on standard output."""
    print("$", *command, flush=True)
    others = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=others, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


if __name__ == "__main__":
    main()
