"""SOAP from `pytorch_optimizer`, with a state that a checkpoint can hold."""

from typing import Any

import torch
from pytorch_optimizer import SOAP
from torch import Tensor


class Soap(SOAP):
    """SOAP whose state is tensors by name, for each parameter, as torch's own optimisers have it.

    The library's has lists of matrices, and counts steps beside the state.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Step every parameter."""
        for group in self.param_groups:
            for p in group["params"]:
                if p in self.state:
                    self._unfold(group, self.state[p])
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p in self.state:
                    self.state[p] = _fold(self.state[p], group["step"])
        return loss

    def _unfold(self, group: dict[str, Any], state: dict[str, Any]) -> None:
        """What the library expects, in the place of what `_fold` made of it."""
        if "step" not in group:  # just restored
            group["step"] = int(state["step"])
        for name in _MATRICES:
            keys = sorted(key for key in state if key.startswith(f"{name}."))
            state[name] = [state.pop(key) for key in keys]
        beta = group["shampoo_beta"]
        state["shampoo_beta"] = group["betas"][1] if beta is None else beta
        state["precondition_frequency"] = group["precondition_frequency"]


_MATRICES = ("GG", "Q")  # of the rows, then of the columns


def _fold(state: dict[str, Any], step: int) -> dict[str, Any]:
    folded: dict[str, Tensor] = {"step": torch.tensor(float(step))}
    for name, value in state.items():
        if name in _MATRICES:
            folded |= {f"{name}.{i}": matrix for i, matrix in enumerate(value)}
        elif isinstance(value, Tensor) and name != "step":
            folded[name] = value
    return folded
