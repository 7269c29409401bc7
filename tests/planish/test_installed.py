"""The package as an editable installation of a clone makes it importable."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
OTHERS = sysconfig.get_path("purelib")
"""The packages that ours needs; paths to other clones that lie beside them are not read."""


def run(program: str, place: Path, *options: str) -> str:
    return subprocess.run(
        [sys.executable, *options, "-c", program],
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
    paths = f"import site, sys; sys.path.append({OTHERS!r}); site.addsitedir({str(site)!r})"
    found = "import planish; print(planish.Client.__name__, planish.__file__)"
    shown = run(f"{paths}; {found}", tmp_path, "-S")
    assert shown.split() == ["Client", str(clone / "planish" / "__init__.py")]
