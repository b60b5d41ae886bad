"""The site as a reader gets it. The truth is mkdocs itself, which fails on any warning, and the files it writes."""

import os
import re
import subprocess
import sys

import pytest

from analysis.provenance import ROOT

NEEDED = ("mkdocs", "material", "mkdocstrings_handlers.python", "latex2mathml")
REQUEST = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the site, built strictly outside the repository."""
    for name in NEEDED:
        pytest.importorskip(name, reason=f'{name} is not installed: pip install -e ".[docs]"')
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", "docs/mkdocs.yml", "-d", str(out)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def test_every_page_is_written(site):
    sources = (ROOT / "docs" / "pages").glob("*.md")
    assert {path.stem for path in sources} | {"404"} == {path.stem for path in site.glob("*.html")}
    assert (site / "api" / "analysis.gradients.html").is_file()


def test_pages_ask_the_network_for_nothing(site):
    pages = {path: REQUEST.findall(path.read_text()) for path in site.rglob("*.html")}
    assert len(pages) > 60
    assert {path: found for path, found in pages.items() if found} == {}


def test_nothing_is_left_of_marks_and_formulas(site):
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert "generated:" not in text
        assert not re.search(r":math:`|\.\. math::|``", text), path


def test_an_estimator_is_documented_with_its_formula(site):
    text = (site / "api" / "analysis.gradients.html").read_text()
    assert "analysis.gradients.pigdm" in text
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in text
