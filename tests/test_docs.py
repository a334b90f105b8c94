"""The documentation as a site: built without a warning; no page loads from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOADED = re.compile(
    r"<(?:script|img|iframe)[^>]+src=[\"']?(?:https?:)?//|<link[^>]+href=[\"']?(?:https?:)?//(?![^>]*canonical)"
)


@pytest.mark.slow
def test_it_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    subprocess.run([*words, "--site-dir", tmp_path / "site"], check=True, cwd=ROOT)
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        assert not LOADED.search(page.read_text(encoding="utf-8")), page.name
    assert "TruncatedNormal" in (tmp_path / "site/api.html").read_text(encoding="utf-8")
