"""Packed runs on the Hugging Face hub, or on whatever HF_ENDPOINT names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from smoothctl.errors import DataError, UsageError
from smoothctl.evaluation.records import SCORES
from smoothctl.runs.packed import CARD, EXAMPLES, PICTURE
from smoothctl.runs.run import RUNS, STAGES, Run
from smoothctl.sharing.card import LIBRARY
from smoothctl.sharing.pack import pack, unpack

__all__ = ["pull", "push"]

_TAKEN = [CARD, EXAMPLES, PICTURE, SCORES, *(f"{stage}/*" for stage in STAGES)]
"""What is fetched of a repository."""


def push(
    run: Run, repository: str, licence: str | None = None, half: bool = False, private: bool = False
) -> str:
    """Packs a run and uploads it.

    Args:
        run: an opened run.
        repository: owner/name; made if need be.
        licence: of the weights, as the hub calls it.
        half: keep weights in half precision.
        private: whether a repository that is made can be seen by its owner alone.

    Returns:
        The address of the model.

    Raises:
        DataError: the hub cannot be reached, or refuses.
        UsageError: no name of a repository.
        RunError: a stage is damaged.
    """
    from huggingface_hub import HfApi

    with TemporaryDirectory() as folder, _said("sent to", repository):
        packed = pack(run, Path(folder) / repository.rpartition("/")[2], licence, half)
        api = HfApi(library_name=LIBRARY)
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=packed, commit_message="A run of smoothctl"
        )
    return str(address)


def pull(repository: str, out: Path | None = None, revision: str | None = None) -> Path:
    """Makes a run folder of a packed run on the hub.

    What was fetched before is taken from the hub's own cache, without a network where
    HF_HUB_OFFLINE says so.

    Args:
        repository: owner/name.
        out: the run folder; None: runs/NAME.
        revision: branch, tag or commit.

    Returns:
        The run folder.

    Raises:
        DataError: the hub cannot be reached, has no such model, or refuses.
        RunError: what it has is damaged or no packed run, or the folder is that of something else.
    """
    from huggingface_hub import snapshot_download

    with _said("fetched from", repository):
        fetched = snapshot_download(
            repository, revision=revision, allow_patterns=_TAKEN, library_name=LIBRARY
        )
    return unpack(Path(fetched), RUNS / repository.rpartition("/")[2] if out is None else out)


@contextmanager
def _said(what: str, repository: str) -> Iterator[None]:
    """Turns what the hub's client raises into a sentence."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    raised: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)  # and its client's
    try:
        yield
    except HFValidationError as error:
        raise UsageError(f"'{repository}' is no owner/name of the hub.") from error
    except raised as error:
        said = str(error).strip().splitlines()
        reason = said[0].rstrip(".") if said else type(error).__name__
        raise DataError(f"{repository} cannot be {what} the hub: {reason}.") from error
