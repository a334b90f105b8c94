"""A run's checkpoint as a folder that `transformers` loads, and that unmask opens like a run.

FOLDER/model.safetensors, config.json    the network
FOLDER/modeling_unmask.py                its code, generated, for where unmask is not installed
FOLDER/tokenizer.json ...                the tokenizer
FOLDER/config.yaml, corpus.json          the run's configuration, and what it was trained on
FOLDER/network/                          what a network of `transformers` is made from
FOLDER/README.md                         a model card
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save

from unmask.base.errors import UserError
from unmask.base.files import check_writable, sync_folder, write_whole
from unmask.config import Config, save_config, with_options
from unmask.convert.adapted import UnmaskAdaptedConfig
from unmask.convert.card import model_card
from unmask.convert.modeling import UnmaskConfig
from unmask.convert.source import adapted_source, own_source
from unmask.data.recorded import RECORD
from unmask.data.tokenizers import HubTokenizer, Tokenizer
from unmask.model.pretrained import CausalLM, MaskedLM, merge_adapters, unlearnt
from unmask.model.transformer import Transformer
from unmask.run import Run, is_export, open_run
from unmask.start import NETWORK, save_structure

MODELING = "modeling_unmask"


def export_run(folder: Path, to: Path, checkpoint: str = "last") -> Path:
    """Write a run's checkpoint as a folder for `transformers`, all of it or nothing.

    Args:
        folder: the run.
        to: a new or empty folder.
        checkpoint: ``last``, ``best`` or a step number; of averaged weights, those.

    Raises:
        UserError: it is no run; ``to`` is not empty, or cannot be written.
    """
    _check_target(to)
    if is_export(folder):
        raise UserError(f"{folder} is an exported model already: convert the run it comes from")
    run, place = open_run(folder, checkpoint), to.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as holder:
        made = Path(holder) / place.name
        made.mkdir()  # with the permissions of any folder, which the temporary one has not
        if isinstance(run.model, MaskedLM):
            _write_masked_lm(run, run.model, made)
        else:
            _write_with_code(run, made)
        write_whole(made / "README.md", model_card(run).encode())
        made.rename(place)  # an empty folder gives way
    sync_folder(place.parent)
    return to


def _check_target(to: Path) -> None:
    """Make sure, before any work, that a folder can be put there.

    Raises:
        UserError: it cannot; why is said.
    """
    check_writable(to, "to:")
    if to.is_symlink():
        raise UserError(f"to: {to} is a link; choose a new folder")
    if not to.exists():
        return
    if to.resolve() == Path.cwd():
        raise UserError(f"to: {to} is the folder that this runs in; choose a new one")
    if any(to.iterdir()):
        raise UserError(f"to: {to} exists already and is not empty; choose a new folder")
    check_writable(to.resolve().parent, "to:")


def _write_with_code(run: Run, folder: Path) -> None:
    """As a class of unmask's, whose code travels along."""
    causal, separator = run.model.causal, run.tokenizer.separator_id
    start = run.model.start if causal else None
    config, source = _own_network(run) if isinstance(run.model, Transformer) else _adapted(run)
    kind = type(config).__name__.replace("Config", "ForCausalLM" if causal else "ForMaskedLM")
    config.architectures = [kind]
    config.auto_map = {
        "AutoConfig": f"{MODELING}.{type(config).__name__}",
        f"AutoModelFor{'CausalLM' if causal else 'MaskedLM'}": f"{MODELING}.{kind}",
    }
    config.bos_token_id, config.eos_token_id, config.pad_token_id = start, separator, separator
    config.max_position_embeddings = run.config.corpus.block_size
    config.dtype, config.step = "float32", run.checkpoint.progress.step
    config.save_pretrained(str(folder))
    if causal:
        ids = {"bos_token_id": start, "eos_token_id": separator, "pad_token_id": separator}
        notes = json.dumps({**ids, "use_cache": False}, indent=2)  # there is no cache
        write_whole(folder / "generation_config.json", notes.encode())
    write_whole(folder / f"{MODELING}.py", source.encode())
    weights = run.model.state_dict()  # as it is by now: adapters are merged
    own = "model." if isinstance(run.model, Transformer) else ""
    contiguous = {own + name: value.contiguous() for name, value in weights.items()}
    write_whole(folder / "model.safetensors", save(contiguous, {"format": "pt"}))
    whole = with_options(run.config, {"adapt.lora": 0})
    save_config(whole, folder / "config.yaml")
    save_structure(run.model, folder)
    shutil.copyfile(run.folder / RECORD, folder / RECORD)
    _save_tokenizer(run.tokenizer, run.config, folder, start)


def _own_network(run: Run) -> tuple[UnmaskConfig, str]:
    """What a network of unmask is made from, and its code."""
    config = UnmaskConfig(
        vocab_size=run.tokenizer.vocab_size,
        network=run.config.model.model_dump(),
        start=run.model.start,
        mask_token_id=run.tokenizer.mask_id,
        never_predicted=run.tokenizer.never_predicted,
        causal=run.model.causal,
        separator=run.model.separator,
    )
    return config, own_source()


def _adapted(run: Run) -> tuple[UnmaskAdaptedConfig, str]:
    """What a causal network of `transformers` is made from, its adapters merged, and its code."""
    model = run.model
    assert isinstance(model, CausalLM)
    merge_adapters(model)
    rows, width = model.head.weight.shape
    network = model.network.config.to_dict()
    network.pop("_name_or_path", None)  # of this machine
    config = UnmaskAdaptedConfig(
        network=network,
        vocab_size=rows,
        width=width,
        start=model.start,
        mask_token_id=run.tokenizer.mask_id,
        causal=model.causal,
        separator=model.separator,
        tie_word_embeddings=model.tied,
    )
    return config, adapted_source()


def _write_masked_lm(run: Run, model: MaskedLM, folder: Path) -> None:
    """As the architecture that it was, adapters merged into its weights."""
    with torch.no_grad():
        merge_adapters(model)
        whole: Any = unlearnt(str(run.folder / NETWORK), causal=False)
        layer = whole.get_output_embeddings()
        kept = model.network.state_dict()
        found = whole.load_state_dict(kept, strict=False)
        layer.weight.copy_(model.head.weight)
        if layer.bias is not None:
            layer.bias.copy_(model.head.bias.nan_to_num(neginf=0.0))
    own = {id(layer.weight), id(layer.bias)}
    names = {name for name, p in whole.named_parameters(remove_duplicate=False) if id(p) in own}
    if set(found.missing_keys) - names or found.unexpected_keys:
        raise UserError(f"{run.folder}: its weights are another network's")
    whole.save_pretrained(str(folder))
    run.tokenizer.save(folder)


def _save_tokenizer(tokenizer: Tokenizer, config: Config, folder: Path, start: int | None) -> None:
    """Write the tokenizer so that `transformers` and unmask read the same ids off a text.

    It puts no special tokens around a text, since the run never saw any; an autoregressive run's
    puts the start symbol before it. What a document ends with stands in padding, too.
    """
    own = tokenizer.of_transformers() if isinstance(tokenizer, HubTokenizer) else byte_tokenizer()
    fast = _plain(own)
    separator = fast.convert_ids_to_tokens(tokenizer.separator_id)
    fast.eos_token = separator
    fast.pad_token = fast.pad_token or separator
    fast.padding_side = "right"
    fast.model_max_length = config.corpus.block_size
    fast.backend_tokenizer.post_processor = _begin(fast, start)
    if start is not None:
        fast.bos_token = fast.convert_ids_to_tokens(start)
    fast.save_pretrained(str(folder))
    (HubTokenizer(fast) if isinstance(tokenizer, HubTokenizer) else tokenizer).save(folder)


def _plain(fast: Any) -> Any:
    """A tokenizer as one of no model: that of a BERT, say, would put its frame on again."""
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    roles = fast.special_tokens_map
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=fast.backend_tokenizer,
        clean_up_tokenization_spaces=fast.clean_up_tokenization_spaces,
        **{role: token for role, token in roles.items() if role.endswith("_token")},
    )


def _begin(fast: Any, start: int | None) -> Any:
    """What puts a start symbol before a text; None for none."""
    from tokenizers.processors import TemplateProcessing  # noqa: PLC0415

    if start is None:
        return None
    token = fast.convert_ids_to_tokens(start)
    return TemplateProcessing(single=[token, "$A"], pair=None, special_tokens=[(token, start)])


def byte_tokenizer() -> Any:
    """`ByteTokenizer` as a fast tokenizer of `transformers`, with the same ids."""
    from tokenizers import Tokenizer as Backend  # noqa: PLC0415
    from tokenizers import decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415
    from transformers.convert_slow_tokenizer import bytes_to_unicode  # noqa: PLC0415

    letters: dict[int, str] = bytes_to_unicode()  # type: ignore[no-untyped-call]
    backend = Backend(models.BPE(vocab={letters[i]: i for i in range(256)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, clean_up_tokenization_spaces=False
    )
    fast.add_special_tokens({"eos_token": "<|end|>"})
    fast.add_special_tokens({"mask_token": "<|mask|>"})
    assert (fast.eos_token_id, fast.mask_token_id) == (256, 257)
    return fast
