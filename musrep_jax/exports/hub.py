"""The Hugging Face Hub: folders of the form `safetensors` as repositories. Needs `huggingface_hub`.

The Hub's own settings hold here: `HF_TOKEN` or `hf auth login` for private repositories and for
uploads, `HF_HOME` for the cache, `HF_HUB_OFFLINE=1` for working from the cache alone, `HF_ENDPOINT`
for a mirror.
"""

from pathlib import Path
from typing import Any

from musrep_jax.exports.reading import CONFIG_FILE, SAFETENSORS_FILE
from musrep_jax.training.checkpoints import README_FILE, ExportError
from musrep_jax.training.integrity import SUMS_FILE

FILES = (README_FILE, CONFIG_FILE, SAFETENSORS_FILE, SUMS_FILE)


def pull(name: str) -> Path:
    """Returns the folder of the cache that holds a model of the Hub, downloaded if it is not there.

    Args:
        name: "OWNER/NAME", or "OWNER/NAME@REVISION" for a branch, tag or commit.

    Raises:
        ExportError: if there is no such repository or no way to it, or the package is missing.
    """
    hub = _huggingface_hub()
    repository, _, revision = name.partition("@")
    try:
        folder = hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=list(FILES)
        )
    except (hub.errors.HFValidationError, OSError) as error:
        raise ExportError(f"hub:{name} cannot be downloaded: {_reason(error)}") from error
    return Path(folder)


def push(folder: str | Path, name: str, *, is_private: bool = False) -> str:
    """Uploads a folder of the form `safetensors`; returns the address of the commit.

    Args:
        folder: that `musrep export --format safetensors` wrote.
        name: "OWNER/NAME"; the repository is made if it is not there.
        is_private: whether a repository that is made is private.

    Raises:
        ExportError: if the Hub refuses, cannot be reached, or the package is missing.
    """
    hub = _huggingface_hub()
    api = hub.HfApi()
    try:
        api.create_repo(name, private=is_private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="Export of musrep_jax",
        )
    except (hub.errors.HFValidationError, OSError) as error:
        raise ExportError(f"{folder} cannot be pushed to {name}: {_reason(error)}") from error
    return str(commit.commit_url)


def _huggingface_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise ExportError(
            'The package huggingface_hub is missing: install it with pip install "musrep_jax[hub]".'
        ) from error
    return huggingface_hub


def _reason(error: Exception) -> str:
    """Returns the first line of the Hub's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
