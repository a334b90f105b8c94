"""A built wheel runs where only the wheel and its dependencies are: presets inside, sources out."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

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


def test_the_wheel_runs_without_the_sources(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own that borrows only the dependencies from this one."""
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
