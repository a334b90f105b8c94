"""Files that several processes write together, each its part (torch's distributed checkpoint).

They are safetensors, which any number of processes reads again, or one alone.
"""

from pathlib import Path
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from unmask.base.errors import UserError


def save_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors that are divided between processes, or held by some; all call it together.

    Raises:
        OSError: in all processes, if one of them could not write.
    """
    try:
        save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        first = next(iter(error.failures.values()))[0]
        raise OSError(f"{folder.name}: {first}") from None


def shard_sizes(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """The shapes and types of what `save_shards` has written into a folder.

    Raises:
        UserError: the files are no such parts.
    """
    try:
        found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _altered(folder) from error
    return {
        name: (kept.size, kept.properties.dtype)
        for name, kept in found.items()
        if isinstance(kept, TensorStorageMetadata)
    }


def load_shards(folder: Path, into: dict[str, Tensor]) -> None:
    """Fill tensors, whole or divided in whatever way, with what stands under their names.

    Raises:
        UserError: they do not stand there.
    """
    with catch_warnings():  # that it is read alone, as is meant
        simplefilter("ignore", UserWarning)
        try:
            load(into, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
        except CheckpointException as error:
            raise _altered(folder) from error


def _altered(folder: Path) -> UserError:
    return UserError(f"{folder} does not hold what was saved there: its files were altered")
