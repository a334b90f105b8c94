"""A built wheel runs where only the wheel and its dependencies are: presets inside, sources out."""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import unmask

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def train_with(python: Path, folder: Path) -> None:
    """Train two steps and sample, in a folder of its own, by the installed command."""
    (folder / "lines.txt").write_text("".join(f"line number {i}\n" for i in range(300)))
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "UNMASK"))
    }
    environment["HOME"] = str(folder / "home")  # an empty one
    unmask = python.parent / "unmask"

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [str(unmask), *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    options = ["--corpus.source", "lines.txt:document=line", "--corpus.block-size", "32"]
    options += ["--model.layers", "1", "--model.width", "16", "--model.heads", "1"]
    options += ["--train.batch-size", "4", "--validation.draws", "2"]
    call("train", "--run", "r", *options, "--train.steps", "2", "--validation.blocks", "8")
    found = call("sample", "r", "--num", "1", "--length", "8", "--steps", "2", "--json")
    assert json.loads(found)["tokens"] == 8


@pytest.mark.slow
def test_dist_is_the_wheel_and_all_that_a_contributor_needs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    version = unmask.__version__
    assert {path.name for path in tmp_path.iterdir()} == {
        f"unmask-{version}-py3-none-any.whl",
        f"unmask-{version}.tar.gz",
    }
    with tarfile.open(tmp_path / f"unmask-{version}.tar.gz") as sources:
        names = {name.removeprefix(f"unmask-{version}/") for name in sources.getnames()}
    needed = {"Makefile", "constraints.txt", "CONTRIBUTING.md", "CITATION.cff", "docs/index.md"}
    assert needed | {"src/unmask/__init__.py", "tests/conftest.py"} <= names


def test_the_citation_names_the_paper_and_this_software_apart() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == unmask.__version__ and cited["type"] == "software"
    assert {"cff-version", "message", "title", "authors", "license"} <= cited.keys()
    (paper,) = cited["references"]
    assert paper["title"] != cited["title"]
    assert paper["identifiers"][0]["value"] == "arXiv:2605.13026"


def test_issue_forms_are_whole() -> None:
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 3
    for form in forms:
        found = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= found.keys(), form.name
        ids = [field["id"] for field in found["body"] if field["type"] != "markdown"]
        assert len(ids) == len(set(ids)) > 1


def test_the_wheel_holds_package_and_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {
        f"unmask/presets/{p}.yaml"
        for p in ("nano", "tiny", "mini", "small", "medium", "laboratory")
    } <= {*names}
    assert {"unmask/py.typed", "unmask/plot/page.html", "unmask/compare/report/page.html"} <= {
        *names
    }
    assert all(name.startswith(("unmask/", "unmask-")) for name in names)


@pytest.mark.slow
def test_the_wheel_runs_without_the_sources(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an environment of its own that borrows only the dependencies from this one."""
    monkeypatch.delenv("PYTHONPATH", raising=False)  # it would come before what is installed
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    site = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", str(wheel)], check=True)
    # A plain path entry: the .pth file of the editable install in there is not followed.
    dependencies = next(p for p in sys.path if p.endswith("site-packages"))
    (site / "dependencies.pth").write_text(dependencies + "\n")
    where = [str(python), "-c", "import unmask; print(unmask.__file__)"]
    assert str(home) in subprocess.check_output(where, cwd=tmp_path, text=True)
    train_with(python, tmp_path)


@pytest.mark.slow
def test_the_wheel_installs_into_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*install, str(wheel)], check=True)
    train_with(python, tmp_path)
