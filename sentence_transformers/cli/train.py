"""``sentence-transformers train``: a training from one file to a folder with the model, its card and its curves."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sentence_transformers.cli.command import Command, CommandError, UsageError

if TYPE_CHECKING:
    from sentence_transformers.training.configured.plan import Plan
    from sentence_transformers.training.configured.run import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``train``."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file: kind, model, train, loss, evaluators, arguments")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="change a value of the file, such as arguments.max_steps=10; may be repeated",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, and print what would be done")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier run left in the output folder")
    parser.add_argument("--json", action="store_true", help="say on standard output, as JSON, what came of it")


def run(args: argparse.Namespace) -> int:
    """Read, check, train. Returns: 0. Raises: CommandError and what the training raises."""
    if args.resume and args.overwrite:
        raise UsageError("--resume goes on with what --overwrite deletes: pass one.")
    path = Path(args.config)
    if not path.is_file():
        raise CommandError(f"no such file: {args.config}")
    from sentence_transformers.errors import need

    need("datasets", extra="train", what="Training")
    need("accelerate", extra="train", what="Training")
    from sentence_transformers.training.configured import plan
    from sentence_transformers.training.configured.run import quiet

    planned = plan.read(path, args.overrides)
    if args.dry_run:
        with quiet(bar=False):
            planned.check()
            print("\n".join(planned.describe()))
        return 0
    result = _trained(planned, args)
    if result.is_main:
        _report(planned, result, args.json)
    return 0


def _trained(planned: Plan, args: argparse.Namespace) -> Result:
    from sentence_transformers.training.configured import run as running

    on_terminal = sys.stderr.isatty()
    try:
        return running.run(planned, resume=args.resume, overwrite=args.overwrite, bar=on_terminal, stream=sys.stderr)
    except KeyboardInterrupt:
        if any(planned.output.glob(running.CHECKPOINTS)):
            print("stopped; --resume goes on from the last checkpoint", file=sys.stderr)
        raise


def _report(planned: Plan, result: Result, as_json: bool) -> None:
    facts = {"output": str(planned.output), "model": str(result.model), "steps": result.steps}
    if as_json:
        details = {"loss": round(result.loss, 6), "metrics": result.metrics, "seconds": round(result.seconds, 3)}
        print(json.dumps({**facts, **details}))
    elif sys.stderr.isatty():
        print(f"{result.model}: {result.steps:,} steps, {result.seconds:.1f} s", file=sys.stderr)


COMMAND = Command("train", "train a model as one file describes it", add_arguments, run, example="train.yaml")
