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

    from unmask.convert.adapted import (  # noqa: PLC0415
        UnmaskAdaptedConfig,
        UnmaskAdaptedForCausalLM,
        UnmaskAdaptedForMaskedLM,
    )
    from unmask.convert.modeling import (  # noqa: PLC0415
        UnmaskConfig,
        UnmaskForCausalLM,
        UnmaskForMaskedLM,
    )

    for config, masked, causal in (
        (UnmaskConfig, UnmaskForMaskedLM, UnmaskForCausalLM),
        (UnmaskAdaptedConfig, UnmaskAdaptedForMaskedLM, UnmaskAdaptedForCausalLM),
    ):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForMaskedLM.register(config, masked, exist_ok=True)
        AutoModelForCausalLM.register(config, causal, exist_ok=True)
