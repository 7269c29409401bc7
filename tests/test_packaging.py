"""The wheel holds everything that the service needs outside its checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("planish", "app", "workers", "migrations")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy, so that the checkout stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    wheels = tmp_path_factory.mktemp("wheels")
    pip(["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source)])
    return next(wheels.glob("planish-*.whl"))


def pip(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--no-cache-dir", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    ours = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as archive:
        assert sorted(ours - set(archive.namelist())) == []


def test_the_installed_wheel_migrates_a_database(
    wheel: Path, tmp_path: Path, empty_database: str
) -> None:
    place = tmp_path / "installed"
    pip(["install", "--no-deps", "--no-compile", "--target", str(place), str(wheel)])
    script = (
        "import migrations, sys\n"
        "from app.settings import Database\n"
        "migrations.upgrade(Database(url=sys.argv[1]))\n"
        "print(migrations.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, empty_database],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(place)
