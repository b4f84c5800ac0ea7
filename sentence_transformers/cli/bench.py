"""``sentence-transformers bench``: which way of computing a model is best on this machine, on one's own texts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sentence_transformers.cli import model, readers
from sentence_transformers.cli.command import Command, UsageError, positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``bench``."""
    parser.add_argument("name", metavar="MODEL", nargs="?", help=f"a folder or a name (default: {model.DEFAULT_MODEL})")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="files with texts such as yours (default: a sample)")
    parser.add_argument("--input-format", choices=readers.READERS, help="default: by extension; .gz is unzipped")
    parser.add_argument("--column", help="column or key of the texts (default: text, or the only one)")
    parser.add_argument("--kind", choices=model.KINDS, help="what the model is (default: as it was saved)")
    parser.add_argument("--way", action="append", metavar="WAY", help="a way to try, such as onnx; may be repeated")
    parser.add_argument("--rounds", type=positive_int, default=5, help="turns of every way (default: %(default)s)")
    parser.add_argument("--batch-size", type=positive_int, default=32, help="most texts at once (default: %(default)s)")
    parser.add_argument(
        "--tolerance", type=float, default=0.01, help="loss in the order of similarities (default: %(default)s)"
    )
    parser.add_argument("--device", help="cpu, cuda, ... (default: the best there is)")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    parser.add_argument("--png", metavar="FILE", help="also draw the speeds into this file")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")


def run(args: argparse.Namespace) -> int:
    """Open the model, race, show. Returns: 0. Raises: CommandError and what the model raises."""
    if not 0 <= args.tolerance <= 1:
        raise UsageError(f"--tolerance is a part of 1: expected 0 to 1, got {args.tolerance}.")
    texts = None
    if args.inputs:
        texts = readers.read(args.inputs, args.input_format, readers.Columns(args.column)).texts
        texts = [text for text in texts if text.strip()]
    if args.png is not None and not Path(args.png).absolute().parent.is_dir():
        raise UsageError(f"--png {args.png}: there is no such folder.")
    from sentence_transformers.evaluation.backends import recommend

    encoder = model.open_kind(args.name or model.DEFAULT_MODEL, args.kind, args.device, args.trust_remote_code)
    found = recommend(
        encoder, texts, ways=args.way, rounds=args.rounds, batch_size=args.batch_size, tolerance=args.tolerance
    )
    if args.png is not None:
        found.draw(args.png)
        if not args.json:
            print(f"{args.png}: drawn", file=sys.stderr)
    print(json.dumps(found.to_dict()) if args.json else str(found))
    return 0


COMMAND = Command(
    "bench",
    "measure the ways of computing a model on this machine, and recommend one",
    add_arguments,
    run,
    usage="[OPTIONS] [MODEL] [INPUT ...]",
    example="bench all-MiniLM-L6-v2 texts.csv --column review --png speeds.png",
)
