"""``sentence-transformers index``: a folder that keeps the passages of text files and their embeddings."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from sentence_transformers.cli import answers, files, model
from sentence_transformers.cli.command import Command, CommandError, Group, UsageError, positive_int
from sentence_transformers.cli.passages import Passage

if TYPE_CHECKING:
    from sentence_transformers.encoders.cross import CrossEncoder
    from sentence_transformers.encoders.dense import SentenceTransformer
    from sentence_transformers.search.index import Index
    from sentence_transformers.search.stores.base import Match
    from sentence_transformers.search.stores.embedded import EmbeddedStore

WINDOW = 2048
"""Passages that are encoded and kept together; a kill loses no earlier ones."""
MODEL, REVISION, SPARSE_MODEL = "model", "revision", "sparse_model"
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
    from sentence_transformers.search.index import Index
    from sentence_transformers.search.stores.embedded import EmbeddedStore

    folder = Path(args.folder)
    if not args.overwrite and _has_rows(folder):
        raise CommandError(
            f"there is an index in {folder} already. Add to it with 'index add', replace it with --overwrite, or "
            "choose another folder."
        )
    found = _cut(args.paths)
    if not any(found.values()):
        raise CommandError(f"no text in {', '.join(args.paths)}: expected at least one passage.")
    notes = {MODEL: _kept_name(args.model)}
    if args.revision is not None:
        notes[REVISION] = args.revision
    if args.sparse_model is not None:
        notes[SPARSE_MODEL] = _kept_name(args.sparse_model)
    models = _open_models(args, notes)  # before anything is written
    similarity = _similarity(models["model"])
    folder.mkdir(parents=True, exist_ok=True)
    with _new_folder(folder) as place, EmbeddedStore(place, similarity=similarity, notes=notes) as store:
        done = _fill(store, Index(store, **models), found, args)
    _report(done, args)
    return 0


def add_add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``index add``."""
    _add_places(parser)
    parser.add_argument("--json", action="store_true", help="say what was done as one JSON object")
    model.add_options(parser, default=None)


def add(args: argparse.Namespace) -> int:
    """Add files, or what changed in them. Returns: 0. Raises: CommandError, OSError and what the models raise."""
    from sentence_transformers.search.index import Index

    with _opened(args.folder) as store:
        found = _cut(args.paths)
        index = Index(store, **_open_models(args, _models(store, args)))
        done = _fill(store, index, found, args)
    _report(done, args)
    return 0


def _cut(paths: Sequence[str]) -> dict[str, dict[str, Passage]]:
    """The whole path of every file -> its passages by their ids."""
    found = {}
    for name in files.collect(paths):
        path = _storable(os.path.abspath(name))
        cut = (
            Passage(
                _storable(passage.text),
                tuple(map(_storable, passage.headings)),
                passage.first_line,
                passage.last_line,
            )
            for passage in files.cut(name)
        )
        found[path] = {_passage_id(path, passage): passage for passage in cut}
    return found


def _fill(
    store: EmbeddedStore, index: Index, found: Mapping[str, Mapping[str, Passage]], args: argparse.Namespace
) -> Counter[str]:
    """Keep the passages of files in place of those that were kept of them before, and forget files that have gone from
    the given folders. Returns: how many of what."""
    from tqdm.auto import tqdm

    folders = tuple(os.path.join(os.path.abspath(path), "") for path in args.paths)
    before: dict[str, set[str]] = {path: set() for path in found}
    gone = []
    for row_id, _, metadata in store.rows({"path": {"$exists": True}}):
        path = str(metadata["path"])
        if path in before:
            before[path].add(row_id)
        elif path.startswith(folders) and not _has_text(path):
            gone.append(row_id)
    new = [
        (row_id, path, passage)
        for path, now in found.items()
        for row_id, passage in now.items()
        if row_id not in before[path]
    ]
    gone += [row_id for path, now in found.items() for row_id in sorted(before[path] - now.keys())]
    done = Counter(files=len(found), added=0, removed=0)
    done["unchanged"] = sum(len(before[path] & now.keys()) for path, now in found.items())
    with tqdm(total=len(new), desc="Encoding", unit="passage", disable=not sys.stderr.isatty()) as bar:
        for start in range(0, len(new), WINDOW):
            some = new[start : start + WINDOW]
            _keep(index, some, args.batch_size)
            bar.update(len(some))
    if gone:  # after what takes their place is there
        done["removed"] = store.delete(gone)
    done["added"] = len(new)
    store.persist()
    return done


def _has_text(path: str) -> bool:
    return os.path.isfile(path) and os.path.getsize(path) > 0


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


def _passage_id(path: str, passage: Passage) -> str:
    """The same as long as the passage stays where and as it is."""
    from sentence_transformers.search.index import text_id

    return text_id(f"{path}\n{passage.first_line}\n{passage.with_headings}")


def _storable(text: str) -> str:
    """Without what a store cannot keep: the character NUL, and what is no Unicode in a file's name or in JSON."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace").decode()


def _has_rows(folder: Path) -> bool:
    from sentence_transformers.search.stores.embedded import FILE

    if not (folder / FILE).exists():
        return False
    with _opened(str(folder)) as store:
        return store.count() > 0


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Where to build; what is built takes the place of what is in ``folder`` once all went well."""
    from sentence_transformers.search.stores.base import StoreError
    from sentence_transformers.search.stores.embedded import FILE, EmbeddedStore

    if not (folder / FILE).exists():
        yield folder
        return
    place = Path(mkdtemp(prefix=".new-", dir=folder))  # a name of its own: the folder may hold other things too
    try:
        yield place
        # The journals belong to the file that goes. It must be whole without them, or a kill now would lose rows.
        with suppress(StoreError), EmbeddedStore(folder, create=False) as old:
            old.persist()
        for journal in JOURNALS:
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
    from sentence_transformers.search.index import Index

    queries, rest = answers.questions(args, args.words)
    if rest:
        raise UsageError(
            f"one question at a time, but there is more: {' '.join(rest)}. Put it in quotes, or use -q for each."
        )
    where = _condition(args.where)
    with _opened(args.folder) as store:
        index = Index(store, **_open_models(args, _models(store, args)), reranker=_open_reranker(args))

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
    """What --where says. Raises: CommandError unless it is a condition, in JSON."""
    from sentence_transformers.search.stores.where import parse

    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise CommandError(f"--where must be JSON, got {text!r} ({error}).") from error
    if not isinstance(found, dict):
        raise CommandError(f'--where must be a JSON object such as {{"path": "a.md"}}, got {text!r}.')
    try:
        parse(found)
    except (TypeError, ValueError) as error:
        raise CommandError(f"--where: {error}") from error
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
            "revision": settings.notes.get(REVISION),
            "sparse_model": settings.notes.get(SPARSE_MODEL),
            "width": settings.width,
            "sparse_width": settings.sparse_width,
            "similarity": settings.similarity,
            "bytes": sum(path.stat().st_size for path in store.path.iterdir() if path.is_file()),
        }
    if args.json:
        print(json.dumps(found))
        return 0
    shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in found.items()}
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
    """The notes on the models that filled the store, or on the one that is asked for."""
    notes = dict(store.settings.notes)
    if args.model is not None and notes.get(MODEL) not in (args.model, _kept_name(args.model)):
        if MODEL in notes:
            print(
                f"warning: {args.folder} was built with {notes[MODEL]}; embeddings of another model do not compare.",
                file=sys.stderr,
            )
        notes[MODEL] = args.model
        notes.pop(REVISION, None)
    if MODEL not in notes:
        raise CommandError(f"{args.folder} does not say which model filled it: pass --model.")
    return notes


def _open_models(args: argparse.Namespace, notes: Mapping[str, str]) -> dict[str, Any]:
    """The models that the notes name, under the names by which ``Index`` takes them."""
    args.model = notes[MODEL]
    args.revision = args.revision or notes.get(REVISION)
    models: dict[str, Any] = {"model": model.open_model(args)}
    if SPARSE_MODEL in notes:
        from sentence_transformers.encoders.sparse import SparseEncoder

        models["sparse_model"] = SparseEncoder(notes[SPARSE_MODEL], **_options(args))
    return models


def _open_reranker(args: argparse.Namespace) -> CrossEncoder | None:
    if args.rerank is None:
        return None
    from sentence_transformers.encoders.cross import CrossEncoder

    return CrossEncoder(args.rerank, **_options(args))


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return {"device": args.device, "trust_remote_code": args.trust_remote_code}


def _similarity(encoder: SentenceTransformer) -> str:
    """How the store compares: as the model does. Raises: CommandError where a store cannot."""
    from sentence_transformers.search.stores.base import SIMILARITIES

    name = encoder.similarity_fn_name
    if name not in SIMILARITIES:
        raise CommandError(
            f"this model compares embeddings by {name!r}, an index by {' or '.join(map(repr, SIMILARITIES))}. Search "
            "without an index, which is 'sentence-transformers search', or choose another model."
        )
    return name


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
        Command(
            "info", "say what an index holds, and whether it is whole", add_info_arguments, info, example="my-index"
        ),
    ),
)
