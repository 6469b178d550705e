"""The Hugging Face Hub: folders of the form `safetensors` as repositories. Needs `huggingface_hub`.

The Hub's own settings apply: `HF_TOKEN` or `hf auth login` for private repositories and for
uploads, `HF_HOME` for the cache, `HF_HUB_OFFLINE=1` for working from the cache alone, `HF_ENDPOINT`
for a mirror.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from musrep_jax.inference.layout import CONFIG_FILE, SAFETENSORS_FILE
from musrep_jax.runtime.integrity import CHECKSUMS_FILE
from musrep_jax.training.checkpoints import README_FILE, ExportError

FILES = (README_FILE, CONFIG_FILE, SAFETENSORS_FILE, CHECKSUMS_FILE)


def check_repository_name(name: str) -> str:
    """Returns the name of a repository, after checking it and that the Hub's package is installed.

    Args:
        name: "OWNER/NAME".

    Raises:
        ExportError: if the name is invalid, or the package is missing.
    """
    _huggingface_hub()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ExportError(f"A model of the Hub is named OWNER/NAME, and {name!r} is not.")
    return name


def pull(name: str, files: Sequence[str] = FILES) -> Path:
    """Returns the folder of the cache that holds a model of the Hub, downloaded if it is not there.

    Args:
        name: "OWNER/NAME", or "OWNER/NAME@REVISION" for a branch, tag or commit.
        files: that are fetched; what of them the repository lacks is left out.

    Raises:
        ExportError: if there is no such repository, it cannot be reached, or the package is
        missing.
    """
    repository, _, revision = name.partition("@")
    check_repository_name(repository)
    with _translate_errors(f"hub:{name} cannot be downloaded"):
        return Path(
            _huggingface_hub().snapshot_download(
                repository, revision=revision or None, allow_patterns=list(files)
            )
        )


def push(folder: str | Path, name: str, *, is_private: bool = False) -> str:
    """Uploads a folder in the format `safetensors`; returns the address of the commit.

    Args:
        folder: that `musrep export --format safetensors` wrote.
        name: "OWNER/NAME"; the repository is created if it does not exist.
        is_private: whether a repository that is made is private.

    Raises:
        ExportError: if the Hub refuses, cannot be reached, or the package is missing.
    """
    api = _huggingface_hub().HfApi()
    with _translate_errors(f"{folder} cannot be pushed to {check_repository_name(name)}"):
        api.create_repo(name, private=is_private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="Export of musrep_jax",
        )
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


@contextlib.contextmanager
def _translate_errors(what_failed: str) -> Iterator[None]:
    """Turns errors of the Hub and of the connection to it into one sentence."""
    errors = _huggingface_hub().errors
    try:
        yield
    except errors.RepositoryNotFoundError as error:
        raise ExportError(
            f"{what_failed}: there is no such repository, or it is private; then set HF_TOKEN, or "
            "log in with `hf auth login`."
        ) from error
    # The base class of the transport's errors, which includes lost connections.
    except (errors.HTTPError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        raise ExportError(f"{what_failed}: {reason}.") from error
