"""``sentence-transformers encode``: texts from files to vectors in a file."""

from __future__ import annotations

import argparse
import json
import sys
from time import perf_counter

from sentence_transformers.cli import model, readers, writers
from sentence_transformers.cli.command import Command, UsageError, positive_int

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``encode``."""
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="files to read; - is standard input (default: it, if piped)"
    )
    parser.add_argument(
        "-o", "--output", default="-", help="file to write; - is standard output, as JSON lines (default)"
    )
    formats = parser.add_argument_group("formats")
    formats.add_argument("--input-format", choices=readers.READERS, help="default: by extension; .gz is unzipped")
    formats.add_argument("--output-format", choices=writers.WRITERS, help="default: by extension")
    formats.add_argument("--column", help="column or key of the texts (default: text, or the only one)")
    formats.add_argument("--id-column", help="column or key of ids to keep (default: the row numbers from 0)")
    formats.add_argument("--no-text", action="store_true", help="write ids and embeddings, not the texts")
    formats.add_argument("--json", action="store_true", help="say on standard output, as JSON, what was written")
    vectors = parser.add_argument_group("vectors")
    vectors.add_argument("--precision", choices=PRECISIONS, default="float32", help="default: %(default)s")
    vectors.add_argument("--normalize", action="store_true", help="scale every vector to length 1")
    vectors.add_argument("--truncate-dim", type=positive_int, help="keep the first so many dimensions")
    vectors.add_argument("--prompt", help="text to put before every input")
    vectors.add_argument("--prompt-name", help="name of a prompt of the model to put before every input")
    vectors.add_argument(
        "--on-truncate",
        choices=("warn", "error", "ignore"),
        default="warn",
        help="what to do with texts longer than the model reads (default: %(default)s)",
    )
    model.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Read, encode, write. Returns: 0. Raises: CommandError and what the model raises."""
    inputs = args.inputs
    if not inputs:
        if sys.stdin.isatty():
            raise UsageError("nothing to read: pass files, or pipe text in.")
        inputs = [readers.STANDARD]
    if args.json and args.output == "-":
        raise UsageError("--json describes a file, but standard output is where the embeddings go: pass -o FILE.")
    if args.prompt is not None and args.prompt_name is not None:
        raise UsageError("--prompt and --prompt-name are two ways to say the same: pass one.")
    output = writers.Output.of(args.output, args.output_format, with_text=not args.no_text)
    texts = readers.read(inputs, args.input_format, readers.Columns(args.column, args.id_column))
    output.check(texts)
    encoder = model.open_model(args)
    on_terminal = sys.stderr.isatty()
    start = perf_counter()
    embeddings = encoder.encode(
        texts.texts,
        prompt_name=args.prompt_name,
        prompt=args.prompt,
        batch_size=args.batch_size,
        show_progress_bar=on_terminal,
        precision=args.precision,
        normalize_embeddings=args.normalize,
        truncate_dim=args.truncate_dim,
        on_truncate=args.on_truncate,
    )
    seconds = perf_counter() - start
    output.write(texts, embeddings)
    count, width = embeddings.shape
    if args.json:
        facts = {"output": args.output, "format": output.format, "count": count, "dimension": width}
        details = {"dtype": str(embeddings.dtype), "model": args.model, "seconds": round(seconds, 3)}
        print(json.dumps({**facts, **details}))
    elif on_terminal and output.path is not None:
        print(f"{args.output}: {count:,} x {width} {embeddings.dtype}, {seconds:.1f} s", file=sys.stderr)
    return 0


COMMAND = Command("encode", "turn texts into vectors", add_arguments, run)
