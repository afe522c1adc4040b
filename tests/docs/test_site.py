"""The documents as a site: every link leads somewhere, and no page asks anything of another host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    result = build(ROOT, folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_pages_ask_nothing_of_other_hosts(site: Path) -> None:
    for path in site.rglob("*.html"):
        tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*", path.read_text())
        loaded = [tag for tag in tags if re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag)]
        assert tags and not loaded, path
        assert 'class="mermaid"' not in path.read_text(), "the theme loads what draws it from another host"
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text()), path


def test_readme_and_changelog_are_pages_and_links_to_files_lead_to_them(site: Path) -> None:
    home = (site / "index.html").read_text()
    assert {"tutorial/", "failures/", "changelog/", "contributing/"} <= set(
        re.findall(r'href="([^"#]+)"', home)
    )
    assert 'href="../lt_hpc/latent/cost.py"' in (site / "training" / "index.html").read_text()
    copied = site / "lt_hpc" / "latent" / "cost.py"
    assert copied.read_bytes() == (ROOT / "lt_hpc" / "latent" / "cost.py").read_bytes()


@pytest.mark.parametrize("link", ["no_page.md", "cluster.md#no-heading", "../lt_hpc/no_file.py"])
def test_a_link_to_nothing_fails_the_build(link: str, tmp_path: Path) -> None:
    for name in ("docs", "tools", "lt_hpc"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / "docs" / "using.md").open("a") as page:
        page.write(f"\n[nowhere]({link})\n")
    result = build(tmp_path, tmp_path / "site")
    assert result.returncode != 0 and link.removeprefix("../").partition("#")[0] in result.stderr
