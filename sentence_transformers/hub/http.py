"""Download one file by its address, whole or not at all."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

BLOCK = 1 << 16
"""Bytes read at a time."""

TIMEOUT = 30.0
"""Seconds without a byte after which the download fails."""


def http_get(url: str, path: str | Path) -> None:
    """Fetch ``url`` into ``path``; its folder is made if need be. The file appears when it is complete.

    Raises:
        ValueError: not an http or https address.
        OSError: the server answers with an error (``urllib.error.HTTPError``), cannot be reached, or sends too little.
    """
    from tqdm.auto import tqdm

    if not url.startswith(("http://", "https://")):
        raise ValueError(f"url must start with http:// or https://; got {url!r}.")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}_part")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, partial.open("wb") as file:
            length = answer.headers.get("Content-Length")
            total = int(length) if length else None
            with tqdm(total=total, unit="B", unit_scale=True, desc=target.name) as bar:
                while block := answer.read(BLOCK):
                    file.write(block)
                    bar.update(len(block))
        if total is not None and partial.stat().st_size != total:
            raise OSError(f"{url} sent {partial.stat().st_size} of {total} bytes. Try again.")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
