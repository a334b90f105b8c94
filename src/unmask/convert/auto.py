"""Exported folders under the Auto classes of `transformers`."""


def register() -> None:
    """Let the Auto classes of `transformers` open a folder that ``unmask convert`` wrote.

    ``AutoModelForMaskedLM.from_pretrained(FOLDER)`` then runs the code of the installed unmask, and
    needs no ``trust_remote_code``; a causal twin is an ``AutoModelForCausalLM``.
    """
    from transformers import (  # noqa: PLC0415 - `import unmask` needs torch alone
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
    )

    from unmask.convert.modeling import (  # noqa: PLC0415
        UnmaskConfig,
        UnmaskForCausalLM,
        UnmaskForMaskedLM,
    )

    AutoConfig.register("unmask", UnmaskConfig, exist_ok=True)
    AutoModelForMaskedLM.register(UnmaskConfig, UnmaskForMaskedLM, exist_ok=True)
    AutoModelForCausalLM.register(UnmaskConfig, UnmaskForCausalLM, exist_ok=True)
