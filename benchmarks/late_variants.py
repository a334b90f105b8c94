"""Train variants of a network whose masked positions come in late, by a slow reference.

    .venv/bin/python benchmarks/late_variants.py late=2,keys=predicting train --run RUN ...

The first argument says what is built, the others are a command of `unmask`. Every position passes
every block here, and what a variant leaves out is hidden or put back: it shows what is learnt, not
what it costs. `model.late` is ``keys=predicting``.

late=N          masked positions pass the last N blocks; 0: all, as any token
shift           a token is predicted at the position before it, whatever the recipe
keys=none       no position looks at a masked one in the blocks they pass
keys=self       a masked position looks at itself alone
keys=last       in the last block masked positions look at each other, before at themselves
keys=predicting all look at those where a token is predicted
keys=all        all look at all
own             masked positions have weights of their own in the blocks they pass
"""

import sys
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unmask.run
from unmask.cli.main import main
from unmask.config import Config
from unmask.data.tokenizers import Tokenizer
from unmask.model.transformer import Transformer
from unmask.recipe.parse import parse_recipe

KEYS = ("none", "self", "last", "predicting", "all")


class Variant(Transformer):
    """The network with some of its bidirectional pass changed."""

    late = 0
    keys = "all"

    def matrix_parameters(self) -> list[nn.Parameter]:
        """Those of the masked positions' own blocks too."""
        return [p for p in [*self.blocks.parameters(), *self.light.parameters()] if p.ndim == 2]

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        valid: Tensor | None = None,
        causal: bool | None = None,
        **_: object,
    ) -> Tensor:
        """As `Transformer.forward`."""
        causal = self.causal if causal is None else causal
        if causal or not self.late:
            return super().forward(x, valid, causal)
        n, masked = x.shape[1], x == self.mask_id
        real = torch.ones_like(masked) if valid is None else valid
        predicting = masked & real
        if self.start is not None:
            x = F.pad(x, (1, 0), value=self.start)
            real = F.pad(real, (1, 0), value=True)
            masked = F.pad(masked, (1, 0), value=False)
            predicting = F.pad(predicting, (0, 1), value=False)
        oneself = torch.eye(x.shape[1], dtype=torch.bool)[None, None]
        visible = (real & ~masked)[:, None, None, :]
        early = visible | oneself
        hidden, angles = self.embedding(x), self.rotary(x.shape[1])
        for number, block in enumerate(self.blocks):
            left = len(self.blocks) - number
            if left > self.late:
                new = block(hidden, angles, early, False)
                hidden = torch.where(masked[..., None], hidden, new)
                continue
            sees = self._sees(real, masked, predicting, oneself, last=left == 1)
            new = block(hidden, angles, sees, False)
            if self.light:
                own = self.light[self.late - left](hidden, angles, sees, False)
                new = torch.where(masked[..., None], own, new)
            hidden = new
        return self.norm(hidden[:, :n])  # type: ignore[no-any-return]

    def _sees(
        self, real: Tensor, masked: Tensor, predicting: Tensor, oneself: Tensor, *, last: bool
    ) -> Tensor:
        visible = (real & ~masked)[:, None, None, :]
        if self.keys == "all":
            return real[:, None, None, :] | oneself
        if self.keys == "predicting":
            return (real & (~masked | predicting))[:, None, None, :] | oneself
        if self.keys == "last" and last:
            return visible | oneself | (masked[:, None, :, None] & real[:, None, None, :])
        return (
            visible.expand(-1, 1, real.shape[1], -1) if self.keys == "none" else visible | oneself
        )


def build(config: Config, tokenizer: Tokenizer) -> Variant:
    """As `unmask.run.build_model`."""
    recipe = parse_recipe(config.recipe)
    model = Variant(
        config.model.model_copy(update={"late": 0}),
        tokenizer.vocab_size,
        tokenizer.never_predicted,
        mask_id=tokenizer.mask_id,
        causal=recipe.causal,
        start=tokenizer.mask_id if recipe.start_symbol or "shift" in OPTIONS else None,
        seed=config.seed,
    )
    model.late, model.keys = int(OPTIONS.get("late", 0)), OPTIONS.get("keys", "all")
    own = model.blocks[-model.late :] if "own" in OPTIONS else []
    model.light = deepcopy(nn.ModuleList(own))
    return model


if __name__ == "__main__":
    OPTIONS = dict(part.partition("=")[::2] for part in sys.argv[1].split(","))
    if OPTIONS.get("keys", "all") not in KEYS or set(OPTIONS) - {"late", "shift", "keys", "own"}:
        sys.exit(f"{sys.argv[1]}: see the head of {sys.argv[0]}; valid keys: {', '.join(KEYS)}")
    unmask.run.build_model = build
    sys.exit(main(sys.argv[2:]))
