"""What ``unmask compare`` is asked for beyond training."""

from pydantic import Field

from unmask.base.section import Section


class QualityOptions(Section):
    """What is measured at every kept checkpoint of a comparison's runs."""

    corpora: tuple[str, ...] = Field(
        (), description="texts whose zero-shot likelihood is measured, as corpus.source names them"
    )
    budget: int = Field(
        200_000, ge=1, description="most tokens through the network for each text and checkpoint"
    )
    judge: str | None = Field(None, description="of generated texts; None: none are drawn")
    num: int = Field(32, ge=2, description="texts drawn at each checkpoint")
    steps: int = Field(64, ge=1, description="denoising steps of each")
