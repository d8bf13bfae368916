"""Whether the Hugging Face hub gives a data set to who asks from here."""

from typing import Literal

Access = Literal["open", "gated", "no such revision", "no such data set", "out of reach"]
"""`open`: to who asks, with the token that is set, if one is. `gated`: not to them."""

TIMEOUT_S = 10.0


def access(dataset: str, revision: str | None, timeout_s: float = TIMEOUT_S) -> Access:
    """What the hub says of a data set at a revision. Asks for its list of files and for the head of one; reads none."""
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        found = HfApi().dataset_info(dataset, revision=revision, timeout=timeout_s)
        names = [one.rfilename for one in found.siblings or () if not one.rfilename.startswith((".", "README"))]
        for name in names[:1]:
            get_hf_file_metadata(hf_hub_url(dataset, name, repo_type="dataset", revision=found.sha), timeout=timeout_s)
    except GatedRepoError:
        return "gated"
    except RevisionNotFoundError:
        return "no such revision"
    except RepositoryNotFoundError:
        return "no such data set"
    except hub_errors():
        return "out of reach"
    return "open"


def hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises where it gets no answer, or none that it understands."""
    from huggingface_hub import errors

    return OSError, ValueError, errors.HTTPError  # type: ignore[attr-defined]  # httpx's or httpx2's: whichever it uses
