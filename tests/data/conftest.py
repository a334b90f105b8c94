"""No test of this room reaches a hub, whatever was imported before it."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory):
    """Set the libraries' constants: they read the environment once, when they are imported."""
    import datasets
    import huggingface_hub.constants

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("hf")
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "hub"))
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        yield
