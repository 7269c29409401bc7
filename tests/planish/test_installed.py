"""The package as an editable installation of a clone makes it importable."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(program: str, place: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


def test_a_script_beside_a_clone_of_its_own_name_finds_the_package(tmp_path: Path) -> None:
    clone, site = tmp_path / "planish", tmp_path / "site"
    shutil.copytree(
        ROOT / "planish", clone / "planish", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    site.mkdir()
    run(f"from setuptools import build_meta; build_meta.build_editable({str(site)!r})", clone)
    [wheel] = site.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    found = run(f"import site; site.addsitedir({str(site)!r}); import planish; {FOUND}", tmp_path)
    assert found.split() == ["<class", "'planish.client.Client'>", str(clone / "planish")]


FOUND = "from pathlib import Path; print(planish.Client, Path(planish.__file__).parent)"
