"""Share model folders through the Hugging Face hub: download, upload."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpt import __version__
from mmpt.models.fingerprint import model_fingerprint
from mmpt.models.folder import CARD_FILE, CONFIG_FILE, FORMAT, TOKENIZER_DIR, WEIGHTS_FILE
from mmpt.models.loading import load_model
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import read_json
from mmpt.utils.output_kinds import MODEL_FOLDER
from mmpt.utils.outputs import check_output, replace_output

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PATTERNS = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, f"{TOKENIZER_DIR}/*")
"""Nothing else is downloaded or uploaded: a repository may also hold pickles or scripts."""
_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+")
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja"),
)


def find_model(path: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The local path of a model: `path` if it exists, else the downloaded hub model `org/name`.

    revision: branch, tag or commit of the hub model. Raises UserError for a revision of a local model,
    MissingDataError if neither exists or the hub cannot be reached.
    """
    local, name = Path(path), os.fspath(path)
    if local.exists() or not is_repo_id(name):
        if revision is not None:
            raise UserError(
                f"revision {revision!r} is for a model of the hub (org/name), but {path} is a local path: "
                "leave the revision out."
            )
        return local
    try:
        return download(name, revision)
    except MissingDataError as error:
        raise MissingDataError(f"there is no folder {name} here; {error}") from error


def is_repo_id(name: str) -> bool:
    """Whether `name` has the form org/name of a hub model, and is not the path of a checkpoint."""
    return bool(_REPO_ID.fullmatch(name)) and name[0] != "." and not name.endswith((".pt", ".safetensors"))


def download(repo_id: str, revision: str | None = None) -> Path:
    """Download the model files of a hub model into the cache of huggingface_hub; returns their folder.

    What is in the cache already is not downloaded again. Raises UserError, MissingDataError.
    """
    from huggingface_hub import snapshot_download

    _check_repo_id(repo_id)
    with _hub_errors(repo_id, revision):
        found = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=list(PATTERNS),
            library_name="mmpt",
            library_version=__version__,
        )
    folder = Path(found)
    if not (folder / CONFIG_FILE).is_file():
        raise MissingDataError(
            f"{repo_id} on {_host()} is not a SignCLIP model (it has no {CONFIG_FILE}): check the name."
        )
    return folder


def push_folder(
    folder: str | os.PathLike[str], repo_id: str, private: bool = False, token: str | None = None
) -> str:
    """Upload a model folder as the hub model `org/name`, in one commit; returns its address.

    Uploads the files in own_files, and deletes files of an older version of the model there. The folder is
    loaded first, so that a damaged one is not uploaded. private: make the repository private. token: None
    takes that of `hf auth login` or HF_TOKEN. Raises UserError, also if the repository holds the model of
    another program, or is public and `private` is set.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    _check_repo_id(repo_id)
    folder = Path(folder)
    load_model(folder)
    names = own_files(folder)
    _check_links(folder, names)
    api = HfApi(token=token, library_name="mmpt", library_version=__version__)
    with _hub_errors(repo_id):
        url = api.create_repo(repo_id, private=private or None, exist_ok=True)
        there = _check_repository(api, repo_id, private)
        operations: list[Any] = [CommitOperationAdd(name, str(folder / name)) for name in names]
        stale = [name for name in there if name.startswith(f"{TOKENIZER_DIR}/") and name not in names]
        operations += [CommitOperationDelete(name) for name in stale]
        api.create_commit(repo_id, operations, commit_message=f"Upload model (mmpt {__version__})")
    return str(url)


def pull_folder(
    repo_id: str, out: str | os.PathLike[str], revision: str | None = None, force: bool = False
) -> None:
    """Download the hub model `org/name` as the model folder `out`: the same files, once they load.

    revision: branch, tag or commit. force: replace another model in `out`. Raises UserError.
    """
    check_output(out, MODEL_FOLDER, force=True)  # before the download
    source = download(repo_id, revision)
    of = {"model": model_fingerprint(load_model(source))}
    with replace_output(out, MODEL_FOLDER, of, force) as fresh:
        (fresh / TOKENIZER_DIR).mkdir()
        for name in own_files(source):
            shutil.copyfile(source / name, fresh / name)


def own_files(folder: Path) -> list[str]:
    """Relative names of the files that make up a model folder, sorted.

    They are those that its config.json lists, those with names that mmpt writes, and the model card.
    """
    listed = read_json(folder / CONFIG_FILE).get("files")
    known = [CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, *(f"{TOKENIZER_DIR}/{name}" for name in _TOKENIZER_FILES)]
    if isinstance(listed, dict):
        known += [name for name in listed if Path(name).parent == Path(TOKENIZER_DIR)]
    return sorted({name for name in known if (folder / name).is_file()})


def _check_links(folder: Path, names: Sequence[str]) -> None:
    """Raises UserError for links out of the folder: the file that they name may be private."""
    for name in names:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"{folder / name} is a link out of the folder: nothing was uploaded. Copy the file into it."
            )


def _check_repository(api: "HfApi", repo_id: str, private: bool) -> list[str]:
    """The files of a repository. Raises UserError if it may not be written to."""
    info = api.model_info(repo_id)
    if private and info.private is False:
        raise UserError(
            f"{repo_id} on {_host()} exists and is public: nothing was uploaded. Make it private in its "
            "settings, or give another name."
        )
    there = [file.rfilename for file in info.siblings or ()]
    if CONFIG_FILE in there and _format(api.hf_hub_download(repo_id, CONFIG_FILE)) != FORMAT:
        raise UserError(
            f"{repo_id} on {_host()} holds a {CONFIG_FILE} that is not of a SignCLIP model: nothing was "
            "uploaded. Give another name."
        )
    return there


def _format(config: str) -> Any:
    try:
        tree = read_json(config)
    except ValueError:
        return None
    return tree.get("format") if isinstance(tree, dict) else None


def _check_repo_id(repo_id: str) -> None:
    if not is_repo_id(repo_id):
        raise UserError(f"expected the name of a hub model, org/name, got {repo_id!r}.")


@contextlib.contextmanager
def _hub_errors(repo_id: str, revision: str | None = None) -> Iterator[None]:
    """Turn errors of huggingface_hub into UserErrors of one line."""
    from huggingface_hub import constants, errors

    there = f"{repo_id} on {_host()}"
    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise MissingDataError(
            f"{there} has no revision {revision!r}: give a branch, a tag or a commit of it."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise MissingDataError(
            f"there is no model {there}, or it is private: check the name, or {login}."
        ) from error
    except errors.HFValidationError as error:
        raise UserError(f"{repo_id!r} is not the name of a hub model: {_first_line(error)}.") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HTTPError) as error:  # type: ignore[attr-defined]
        answer = error if isinstance(error, errors.HfHubHTTPError) else error.__cause__
        if isinstance(answer, errors.HfHubHTTPError):
            status = answer.response.status_code
            hint = f" Your token has no access: {login}." if status in (401, 403) else " Try again later."
            raise UserError(f"{there}: the server answered {_first_line(answer)}.{hint}") from error
        if constants.HF_HUB_OFFLINE:
            message = f"HF_HUB_OFFLINE is set, and {there} is not in the cache: unset it"
        else:
            message = f"{there} cannot be reached and is not in the cache: check the network"
        raise MissingDataError(f"{message}, or use a local model folder.") from error
    except UserError:
        raise
    except (ValueError, TypeError, KeyError) as error:  # such as the login page of a network
        raise UserError(
            f"{there} cannot be used ({type(error).__name__}: {_first_line(error)}): check the name, the "
            "network, HF_ENDPOINT and HF_TOKEN."
        ) from error


def _host() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT.rstrip("/")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
