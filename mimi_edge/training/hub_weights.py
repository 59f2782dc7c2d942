"""Pretrained weights from the Hugging Face hub: safetensors alone, fetched once, or one clear error."""

from __future__ import annotations

from pathlib import Path

from mimi_edge.errors import MimiEdgeError

WEIGHTS_FILE = "model.safetensors"


def are_kept(repository: str) -> bool:
    """Whether weights were fetched before; no network is asked.

    Args:
        repository: `owner/name`, or `owner/name@revision`.
    """
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    name, revision = _split(repository)
    return isinstance(try_to_load_from_cache(name, WEIGHTS_FILE, revision=revision), str)


def fetched_weights(backbone: str, repository: str) -> Path:
    """The file of weights of a repository, on this machine.

    Args:
        backbone: for messages.
        repository: `owner/name`, or `owner/name@revision`.

    Raises:
        MimiEdgeError: it is neither here nor to be had.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    name, revision = _split(repository)
    try:
        if not are_kept(repository):
            # Once: a download asks six times, and takes half a minute to say that there is no network.
            get_hf_file_metadata(hf_hub_url(name, WEIGHTS_FILE, revision=revision))
        return Path(hf_hub_download(name, WEIGHTS_FILE, revision=revision))
    except Exception as error:  # the hub's client and its transport each raise kinds of their own
        raise not_to_be_had(backbone, repository, error) from error


def not_to_be_had(backbone: str, repository: str, error: Exception) -> MimiEdgeError:
    """What to say where weights of a repository cannot be used."""
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return MimiEdgeError(
        f"Could not get the pretrained weights of {backbone!r}: {reason}\n"
        f"Wanted: {WEIGHTS_FILE} of {repository} from the Hugging Face hub. With a network, try again (it is needed "
        "once); without one, copy that file here and give --weights FILE.safetensors."
    )


def _split(repository: str) -> tuple[str, str | None]:
    name, _, revision = repository.partition("@")
    return name, revision or None
