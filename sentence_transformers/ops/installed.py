"""Which optional packages are installed, without importing them; and a switch of one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, metadata

from ..errors import need


def check_package_availability(package_name: str, owner: str) -> bool:
    """Whether the distribution is installed that is developed at ``github.com/<owner>/<package_name>``.

    A folder or another distribution that happens to have the name does not count.
    """
    try:
        about = metadata(package_name)
    except PackageNotFoundError:
        return False
    links = [*(about.get_all("Project-URL") or []), *(about.get_all("Home-page") or [])]
    addresses = [link.rpartition(",")[2].strip() for link in links]  # "Repository, https://..."
    place = f"://github.com/{owner}/{package_name}"
    return any(f"{address.removesuffix('.git')}/".partition(place)[2].startswith("/") for address in addresses)


def is_accelerate_available() -> bool:
    """Whether ``accelerate`` of Hugging Face is installed."""
    return check_package_availability("accelerate", "huggingface")


def is_datasets_available() -> bool:
    """Whether ``datasets`` of Hugging Face is installed."""
    return check_package_availability("datasets", "huggingface")


def is_training_available() -> bool:
    """Whether both packages that training needs are installed: ``accelerate`` and ``datasets``."""
    return is_accelerate_available() and is_datasets_available()


@contextmanager
def disable_datasets_caching() -> Iterator[None]:
    """Inside the ``with``, ``datasets`` keeps nothing of what it computes.

    Raises: ImportError if ``datasets`` is not installed.
    """
    datasets = need("datasets", extra="train", what="disable_datasets_caching()")
    before = datasets.is_caching_enabled()
    datasets.disable_caching()
    try:
        yield
    finally:
        if before:
            datasets.enable_caching()
