"""The network's modules as one file that needs torch and `transformers` alone.

What travels with an exported model is made from the modules that trained it: there is no copy to
keep. Their imports of each other are taken out, and the configuration becomes a plain dataclass.
"""

import ast
from importlib import import_module
from inspect import getsource
from types import ModuleType

from unmask.model.config import ModelConfig

OWN = (
    "unmask.model.flops",
    "unmask.model.norm",
    "unmask.model.documents",
    "unmask.model.layers",
    "unmask.model.late",
    "unmask.model.head",
    "unmask.model.network",
    "unmask.model.transformer",
    "unmask.convert.prediction",
    "unmask.convert.modeling",
)
"""What a network of unmask is made of."""
ADAPTED = (
    "unmask.model.head",
    "unmask.model.documents",
    "unmask.model.directions",
    "unmask.convert.prediction",
    "unmask.convert.adapted",
)
"""What a causal network of `transformers` that unmask has trained on is made of."""
_HEAD = '''"""A masked diffusion language model, trained and written by unmask.

This file is generated from unmask's own modules. It needs torch and transformers alone.
"""
'''
_CONFIG = '''

@dataclass
class ModelConfig:
    """Shape of a `Transformer`."""

{fields}
'''


def own_source() -> str:
    """The file's text for a network of unmask."""
    return _joined(OWN, {"from dataclasses import dataclass"}, _config())


def adapted_source() -> str:
    """The file's text for a causal network of `transformers` that unmask has trained on."""
    return _joined(ADAPTED, set(), "\n\n")


def _joined(modules: tuple[str, ...], imports: set[str], before: str) -> str:
    bodies = []
    for name in modules:
        found, body = _split(import_module(name))
        imports |= found
        bodies.append(body)
    return _HEAD + "\n" + "\n".join(sorted(imports)) + before + "\n\n\n".join(bodies) + "\n"


def _split(module: ModuleType) -> tuple[set[str], str]:
    """A module's imports from elsewhere, and the rest of its text without its docstring."""
    text = getsource(module)
    lines, tree = text.splitlines(), ast.parse(text)
    imports: set[str] = set()
    gone = set[int]()
    for number, node in enumerate(tree.body):
        docstring = number == 0 and isinstance(node, ast.Expr)
        if not docstring and not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        gone |= set(range(node.lineno - 1, node.end_lineno or node.lineno))
        ours = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unmask")
        if not docstring and not ours:
            imports.add(ast.unparse(node))
    return imports, "\n".join(line for i, line in enumerate(lines) if i not in gone).strip("\n")


def _config() -> str:
    """`ModelConfig` without the library that checks it: its fields and what follows from them."""
    fields = [
        f"    {name}: {type(field.default).__name__} = {field.default!r}"
        for name, field in ModelConfig.model_fields.items()
    ]
    tree = ast.parse(getsource(ModelConfig))
    (kind,) = tree.body
    assert isinstance(kind, ast.ClassDef)
    properties = [
        ast.unparse(node)
        for node in kind.body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list)
    ]
    methods = "\n\n".join(
        "\n".join(f"    {line}" if line else line for line in text.splitlines())
        for text in properties
    )
    return _CONFIG.format(fields="\n".join(fields)) + f"\n{methods}\n\n\n"
