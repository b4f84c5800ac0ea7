"""The options that say which model, and opening it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sentence_transformers.cli.command import CommandError, positive_int

if TYPE_CHECKING:
    from sentence_transformers.encoders.dense import SentenceTransformer

DEFAULT_MODEL = "all-MiniLM-L6-v2"
KINDS = {
    "dense": "encoders.dense:SentenceTransformer",
    "sparse": "encoders.sparse:SparseEncoder",
    "multi-vector": "encoders.multi_vector:MultiVectorEncoder",
    "reranker": "encoders.cross:CrossEncoder",
}
"""The kinds of models, and the class of each."""


def add_options(parser: argparse.ArgumentParser, default: str | None = DEFAULT_MODEL) -> None:
    """Declare --model and what belongs to it. default: None where something else knows which model."""
    group = parser.add_argument_group("model")
    shown = "the one that was used before" if default is None else default
    group.add_argument("--model", default=default, help=f"a folder or a name (default: {shown})")
    group.add_argument("--revision", help="branch, tag or commit of a model on the Hub")
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: the best there is)")
    group.add_argument("--batch-size", type=positive_int, default=32, help="most texts at once (default: %(default)s)")
    group.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")


def open_model(args: argparse.Namespace) -> SentenceTransformer:
    """The model that the options of ``add_options`` name.

    Raises: CommandError for a device that is not there; whatever ``SentenceTransformer`` raises.
    """
    from sentence_transformers.encoders.dense import SentenceTransformer

    _check_device(args.device)
    return SentenceTransformer(
        args.model, device=args.device, revision=args.revision, trust_remote_code=args.trust_remote_code
    )


def open_kind(name: str, kind: str | None, device: str | None, trust_remote_code: bool) -> Any:
    """A model of any kind.

    Args:
        kind: one of ``KINDS``; None takes the kind it was saved as.

    Raises: CommandError for a device that is not there; whatever the class raises.
    """
    from sentence_transformers._lazy import resolve
    from sentence_transformers.encoders.loading import saved_type

    _check_device(device)
    if kind is None:
        saved = saved_type(name)
        kind = next((kind for kind, target in KINDS.items() if target.endswith(f":{saved}")), "dense")
    encoder: Any = resolve(KINDS[kind])
    return encoder(name, device=device, trust_remote_code=trust_remote_code)


def _check_device(device: str | None) -> None:
    import torch

    if device is not None and torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise CommandError(f"--device {device}: torch finds no CUDA device here; leave the option out, or use cpu.")
