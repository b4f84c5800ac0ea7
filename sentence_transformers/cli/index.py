"""``sentence-transformers index``: a folder that keeps the passages of text files and their embeddings."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentence_transformers.cli import answers, files, model
from sentence_transformers.cli.command import Command, CommandError, Group, positive_int
from sentence_transformers.cli.passages import Passage

if TYPE_CHECKING:
    from sentence_transformers.search.index import Index
    from sentence_transformers.search.stores.base import Match
    from sentence_transformers.search.stores.embedded import EmbeddedStore

WINDOW = 2048
"""Passages that are encoded and kept together; a kill loses no earlier ones."""
MODEL, SPARSE_MODEL = "model", "sparse_model"
"""The notes of a store that say who filled it."""
JOURNALS = ("-wal", "-shm")


# --- build and add ---------------------------------------------------------------------------------------------------


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``index build``."""
    _add_places(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the index that is there, once the new one is whole"
    )
    parser.add_argument("--sparse-model", metavar="MODEL", help="a SparseEncoder too: answers are of both (hybrid)")
    parser.add_argument("--json", action="store_true", help="say what was done as one JSON object")
    model.add_options(parser)


def build(args: argparse.Namespace) -> int:
    """Make an index of files. Returns: 0. Raises: CommandError, OSError and what the models raise."""
    from sentence_transformers.search.stores.embedded import FILE, EmbeddedStore

    folder = Path(args.folder)
    if (folder / FILE).exists() and not args.overwrite:
        raise CommandError(
            f"there is an index in {folder} already. Add to it with 'index add', replace it with --overwrite, or "
            "choose another folder."
        )
    names = files.collect(args.paths)
    notes = {MODEL: _kept_name(args.model)}
    if args.sparse_model is not None:
        notes[SPARSE_MODEL] = _kept_name(args.sparse_model)
    folder.mkdir(parents=True, exist_ok=True)
    with _new_folder(folder, args.overwrite) as place, EmbeddedStore(place, notes=notes) as store:
        done = _fill(_index(store, args, notes), names, args.batch_size)
        if not done["added"]:
            raise CommandError(f"no text in {', '.join(args.paths)}: expected at least one passage.")
    _report(done, args)
    return 0


def add_add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``index add``."""
    _add_places(parser)
    parser.add_argument("--json", action="store_true", help="say what was done as one JSON object")
    model.add_options(parser, default=None)


def add(args: argparse.Namespace) -> int:
    """Add files, or what changed in them. Returns: 0. Raises: CommandError, OSError and what the models raise."""
    names = files.collect(args.paths)
    with _opened(args.folder) as store:
        done = _fill(_index(store, args, _models(store, args)), names, args.batch_size)
    _report(done, args)
    return 0


def _fill(index: Index, names: Sequence[str], batch_size: int) -> Counter[str]:
    """Keep the passages of files in place of those that were kept of them before. Returns: how many of what."""
    from tqdm.auto import tqdm

    from sentence_transformers.search.stores.embedded import EmbeddedStore

    store = index.store
    assert isinstance(store, EmbeddedStore)
    new: list[tuple[str, str, Passage]] = []
    gone: list[str] = []
    done = Counter(files=len(names), added=0, removed=0, unchanged=0)
    for name in names:
        path = os.path.abspath(name)
        before = {row_id for row_id, _, _ in store.rows({"path": path})}
        now = dict(_with_ids(path, files.cut(name)))
        new += [(row_id, path, passage) for row_id, passage in now.items() if row_id not in before]
        gone += sorted(before - now.keys())
        done["unchanged"] += len(before & now.keys())
    with tqdm(total=len(new), desc="Encoding", unit="passage", disable=not sys.stderr.isatty()) as bar:
        for start in range(0, len(new), WINDOW):
            some = new[start : start + WINDOW]
            _keep(index, some, batch_size)
            bar.update(len(some))
    if gone:  # after what takes their place is there
        done["removed"] = store.delete(gone)
    done["added"] = len(new)
    store.persist()
    return done


def _keep(index: Index, some: Sequence[tuple[str, str, Passage]], batch_size: int) -> None:
    index.store.add(
        [row_id for row_id, _, _ in some],
        **index.encode_documents([passage.with_headings for _, _, passage in some], batch_size, on_truncate="ignore"),
        texts=[passage.text for _, _, passage in some],
        metadata=[
            {
                "path": path,
                "first_line": passage.first_line,
                "last_line": passage.last_line,
                "headings": list(passage.headings),
            }
            for _, path, passage in some
        ],
    )


def _with_ids(path: str, found: Iterable[Passage]) -> Iterator[tuple[str, Passage]]:
    """Passages and ids, which are the same as long as the passage stays where and as it is."""
    from sentence_transformers.search.index import text_id

    for passage in found:
        yield text_id(f"{path}\n{passage.first_line}\n{passage.with_headings}"), passage


@contextmanager
def _new_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Where to build; what is built takes the place of what is in ``folder`` once all went well."""
    from sentence_transformers.search.stores.embedded import FILE

    if not (folder / FILE).exists():
        yield folder
        return
    assert overwrite
    place = folder / "new"
    shutil.rmtree(place, ignore_errors=True)
    try:
        yield place
        for journal in JOURNALS:  # they belong to the file that goes
            (folder / (FILE + journal)).unlink(missing_ok=True)
        os.replace(place / FILE, folder / FILE)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _report(done: Counter[str], args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps({"folder": args.folder, **done}))
        return
    print(
        f"{args.folder}: {done['files']:,} files, {done['added']:,} passages added, {done['removed']:,} removed, "
        f"{done['unchanged']:,} unchanged"
    )


# --- search ----------------------------------------------------------------------------------------------------------


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``index search``."""
    parser.add_argument("folder", metavar="FOLDER", help="the index")
    parser.add_argument("words", nargs="*", metavar="QUERY", help="a question")
    answers.add_options(parser)
    parser.add_argument(
        "--where", metavar="JSON", help='only passages whose metadata fulfil this: {"headings": {"$contains": "Usage"}}'
    )
    parser.add_argument("--rerank", metavar="MODEL", help="a CrossEncoder that ranks the best passages again")
    parser.add_argument(
        "--candidates", type=positive_int, default=100, help="so many passages it ranks (default: %(default)s)"
    )
    model.add_options(parser, default=None)


def search(args: argparse.Namespace) -> int:
    """Answer questions from an index. Returns: 0. Raises: CommandError, OSError, ValueError, what the models raise."""
    queries, rest = answers.questions(args, args.words)
    if rest:
        raise CommandError(f"one question at a time, got {len(rest)} words more; put it in quotes, or use -q twice.")
    where = _condition(args.where)
    with _opened(args.folder) as store:
        index = _index(store, args, _models(store, args), reranker=args.rerank)

        def answer(some: list[str]) -> list[list[answers.Hit]]:
            found = index.search(some, args.k, where=where, candidates=args.candidates, batch_size=args.batch_size)
            return [
                [_hit(match) for match in matches if args.min_score is None or match.score >= args.min_score]
                for matches in found
            ]

        answers.show(queries, store.count(where), answer, args)
    return 0


def _hit(match: Match) -> answers.Hit:
    """What is shown of a row; rows that another program has added may lack all but the text."""
    known = match.metadata
    passage = Passage(
        match.text or "",
        tuple(known.get("headings", ())),
        int(known.get("first_line", 0)),
        int(known.get("last_line", 0)),
    )
    return answers.Hit(match.score, _short(str(known.get("path", match.id))), passage)


def _short(path: str) -> str:
    """The path from here, if it is below."""
    return os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path


def _condition(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise CommandError(f"--where must be JSON, got {text!r} ({error}).") from error
    if not isinstance(found, dict):
        raise CommandError(f'--where must be a JSON object such as {{"path": "a.md"}}, got {text!r}.')
    return found


# --- info ------------------------------------------------------------------------------------------------------------


def add_info_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``index info``."""
    parser.add_argument("folder", metavar="FOLDER", help="the index")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def info(args: argparse.Namespace) -> int:
    """Say what an index holds, and whether it is whole. Returns: 0. Raises: CommandError, OSError, StoreError."""
    with _opened(args.folder) as store:
        store.check()
        settings = store.settings
        found = {
            "folder": args.folder,
            "passages": store.count(),
            "files": len({metadata.get("path") for _, _, metadata in store.rows()}),
            "model": settings.notes.get(MODEL),
            "sparse_model": settings.notes.get(SPARSE_MODEL),
            "width": settings.width,
            "sparse_width": settings.sparse_width,
            "similarity": settings.similarity,
            "bytes": sum(path.stat().st_size for path in store.path.iterdir() if path.is_file()),
            "damaged": False,
        }
    if args.json:
        print(json.dumps(found))
        return 0
    shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in found.items()}
    del shown["damaged"]
    print("\n".join(f"{name:<12}  {value}" for name, value in shown.items() if value is not None))
    print("every page and every row was read: the index is whole")
    return 0


# --- shared ----------------------------------------------------------------------------------------------------------


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="where the index is kept")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, and folders of files")


def _opened(folder: str) -> EmbeddedStore:
    from sentence_transformers.search.stores.embedded import FILE, EmbeddedStore

    if not (Path(folder) / FILE).exists():
        raise CommandError(
            f"there is no index in {folder}. Make one: sentence-transformers index build {folder} PATH ..."
        )
    return EmbeddedStore(folder, create=False)


def _models(store: EmbeddedStore, args: argparse.Namespace) -> dict[str, str]:
    """The names of the models that filled the store, or the one that is asked for."""
    notes = dict(store.settings.notes)
    if args.model is not None:
        if notes.get(MODEL, args.model) not in (args.model, _kept_name(args.model)):
            print(
                f"warning: {args.folder} was built with {notes[MODEL]}; embeddings of another model do not compare.",
                file=sys.stderr,
            )
        notes[MODEL] = args.model
    if MODEL not in notes:
        raise CommandError(f"{args.folder} does not say which model filled it: pass --model.")
    return notes


def _index(store: EmbeddedStore, args: argparse.Namespace, names: dict[str, str], reranker: str | None = None) -> Index:
    from sentence_transformers.search.index import Index

    args.model = names[MODEL]
    dense, sparse, cross = model.open_model(args), None, None
    options = {"device": args.device, "trust_remote_code": args.trust_remote_code}
    if SPARSE_MODEL in names:
        from sentence_transformers.encoders.sparse import SparseEncoder

        sparse = SparseEncoder(names[SPARSE_MODEL], **options)
    if reranker is not None:
        from sentence_transformers.encoders.cross import CrossEncoder

        cross = CrossEncoder(reranker, **options)
    return Index(store, dense, sparse_model=sparse, reranker=cross)


def _kept_name(name: str) -> str:
    """The name of a model as it is understood from every folder."""
    return os.path.abspath(name) if os.path.isdir(name) else name


GROUP = Group(
    "index",
    "keep passages of text files and their embeddings in a folder, and search them",
    (
        Command(
            "build",
            "make an index of text files",
            add_build_arguments,
            build,
            usage="[options] FOLDER PATH [PATH ...]",
            example="my-index docs README.md",
        ),
        Command(
            "add",
            "add files to an index, or what changed in them",
            add_add_arguments,
            add,
            usage="[options] FOLDER PATH [PATH ...]",
            example="my-index docs",
        ),
        Command(
            "search",
            "answer questions from an index",
            add_search_arguments,
            search,
            usage="[options] FOLDER QUERY",
            example='my-index "how do I begin?" -k 3',
        ),
        Command("info", "say what an index holds, and whether it is whole", add_info_arguments, info),
    ),
)
