"""The house rules: rooms import only from rooms below, and the top of the package is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import unmask

PACKAGE = Path(unmask.__file__).parent
LOWEST_FIRST = [
    "base",
    "diffusion",
    "plot",
    "model",
    "data",
    "recipe",
    "train",
    "config",
    "start",
    "run",
    "cost",
    "sample",
    "evaluate",
    "compare",
    "analyze",
    "convert",
    "play",
    "cli",
    "__main__",
]
LEVEL = {room: level for level, room in enumerate(LOWEST_FIRST)}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_below(path: Path) -> None:
    own = room_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "unmask" or len(parts) == 1:
            continue
        other = parts[1]
        assert other == own or LEVEL[other] < LEVEL[own], f"{own} imports {name}"


def test_a_room_is_entered_by_its_modules_and_keeps_its_own_to_itself() -> None:
    """Rooms have no front of names beside their modules'; what begins with _ is not for others."""
    for path in FILES:
        if path.name == "__init__.py" and room_of(path) != "cli":
            assert not imports(path), f"{path}: a room's front holds no names"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unmask."):
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{path} imports {private} of {node.module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_diffusion_and_recipe_need_torch_alone(path: Path) -> None:
    light = ("diffusion", "recipe", "__main__")
    if room_of(path) in light or path.name in ("errors.py", "spec.py"):
        outside = {name.split(".")[0] for name in imports(path)} - {"unmask", "torch"}
        assert outside <= sys.stdlib_module_names


def test_the_top_of_the_package_imports_with_torch_alone() -> None:
    """In an interpreter where every other dependency is out of reach."""
    code = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('numpy', 'pydantic', 'transformers', 'tokenizers', 'datasets',
                                  'safetensors', 'pyarrow', 'yaml', 'tyro', 'rich', 'scipy',
                                  'jinja2'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Wall())
import torch
from unmask import Beta, LogitNormal, TruncatedNormal, Uniform, stratified
g = torch.Generator().manual_seed(0)
t = TruncatedNormal(mean=0.5, std=0.2).quantile(stratified(8, generator=g))
assert t.shape == (8,) and (TruncatedNormal(mean=0.5, std=0.2).pdf(t) > 0).all()
import unmask
assert all(getattr(unmask, name) is not None for name in unmask.__all__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
