"""Evaluators of a file of settings: what their data is, read into what their constructors take.

Arguments that a constructor must have are data: columns of the evaluator's own dataset, or datasets of their own (ids
and texts, judgements). All others are settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Dataset

from ...errors import one_of
from .data import KEYS, DatasetPlan, dataset_plan
from .document import Section, expect, shown
from .models import ModelPlan
from .parts import MODELS, OpenPlan
from .values import Made, check_complete, checked, described, fits, named_class, parameters

OF_DATASET = tuple(key for key in KEYS if key != "label")
ONLY_IN_PYTHON = ("dataloader", "dataframe", "dense_samples", "sparse_samples")
"""Data that cannot be described in a file."""
RETRIEVAL = ("queries", "corpus", "relevant_docs")
FROM_PAIRS = ("query", "document")
"""Columns of a dataset that may stand for all three: each document answers its query, and is one of the corpus."""

ID_AND_TEXT = {"id": ("_id", "id"), "text": ("text",)}
JUDGEMENTS = {
    "query": ("query", "query-id", "query_id"),
    "document": ("document", "corpus-id", "corpus_id", "doc_id"),
    "score": ("score", "relevance"),
}
SAMPLES = {"query": ("query",), "positive": ("positive",), "negative": ("negative",)}
RANKED = {"query": ("query",), "positive": ("positive",), "documents": ("documents",)}
RANKS = "always_rerank_positives"
"""Evaluators with this argument take samples with the results of a search, too."""
PAIRS = {"first": ("first", "id1"), "second": ("second", "id2")}
OPTIONAL = ("score",)
OF_TWO = {"sentence_pairs": ("sentences1", "sentences2")}
"""Argument that is made of two columns -> what they are called."""

Columns: TypeAlias = dict[str, str]


def _by_id(rows: Dataset, columns: Columns) -> dict[str, Any]:
    """Id -> text."""
    return dict(zip(map(str, rows[columns["id"]]), rows[columns["text"]], strict=True))


def _relevant(rows: Dataset, columns: Columns) -> dict[str, set[str]]:
    """Query id -> ids of documents; those judged 0 or less are left out."""
    found: dict[str, set[str]] = {}
    scores = rows[columns["score"]] if "score" in columns else [1] * len(rows)
    for query, document, score in zip(rows[columns["query"]], rows[columns["document"]], scores, strict=True):
        if float(score) > 0:
            found.setdefault(str(query), set()).add(str(document))
    return found


def _samples(rows: Dataset, columns: Columns) -> list[dict[str, Any]]:
    """Query, positives, and negatives or the results of a search."""
    taken = [rows[column][:] for column in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*taken, strict=True)]


def _pairs(rows: Dataset, columns: Columns) -> list[tuple[str, str]]:
    """Pairs of ids."""
    return list(zip(map(str, rows[columns["first"]]), map(str, rows[columns["second"]]), strict=True))


Reader: TypeAlias = tuple[Callable[[Dataset, Columns], Any], Mapping[str, tuple[str, ...]]]

READERS: dict[str, Reader] = {
    "queries": (_by_id, ID_AND_TEXT),
    "corpus": (_by_id, ID_AND_TEXT),
    "sentences_map": (_by_id, ID_AND_TEXT),
    "relevant_docs": (_relevant, JUDGEMENTS),
    "duplicates_list": (_pairs, PAIRS),
    "samples": (_samples, SAMPLES),
}
"""Argument with a dataset of its own, unless it takes a column of texts -> how it is read, and what its columns are
usually called."""


@dataclass
class EvaluatorPlan:
    """An evaluator, as the file describes it.

    Attributes:
        settings: argument -> value, or the plan of a model.
        columns: argument -> column of ``data``.
        own: argument -> dataset of its own.
        from_pairs: queries, corpus and judgements are made of ``data``.
    """

    kind: Made
    place: str
    settings: dict[str, Any] = field(default_factory=dict)
    data: DatasetPlan | None = None
    columns: Columns = field(default_factory=dict)
    own: dict[str, DatasetPlan] = field(default_factory=dict)
    from_pairs: bool = False

    def __str__(self) -> str:
        sources = [one.source for one in self.datasets]
        shown = [f"{name}={value}" for name, value in self.settings.items()]
        return f"{self.kind.__name__}({', '.join([*shown, *sources])})"

    @property
    def datasets(self) -> list[DatasetPlan]:
        """All that it reads."""
        return [*([self.data] if self.data is not None else []), *self.own.values()]

    def read(self) -> dict[str, Any]:
        """The arguments that are data. Raises: ValueError for columns that are not there."""
        found: dict[str, Any] = {}
        if self.data is not None:
            rows = self.data.raw()
            for column in self.columns.values():
                one_of(f"{self.place}.columns: a column", column, rows.column_names)
            found = self._pairs(rows) if self.from_pairs else self._arguments(rows)
        for argument, plan in self.own.items():
            reader, names = READERS[argument]
            rows = plan.raw()
            if names is SAMPLES and "documents" in (plan.columns or rows.features):
                names = self._names_of_ranked(plan, rows)
            found[argument] = reader(rows, _columns(plan, rows, names))
        return found

    def _names_of_ranked(self, plan: DatasetPlan, rows: Dataset) -> Mapping[str, tuple[str, ...]]:
        """What columns of samples with results of a search are called. Raises: ValueError where none are expected."""
        if RANKS in parameters(self.kind):
            return RANKED
        if plan.columns is None and "negative" not in rows.features:
            raise ValueError(
                f"{plan.place}: {self.kind.__name__} takes negatives, not the results of a search, as rerankers do; "
                "name the columns if they are: columns: {query: ..., positive: ..., negative: ...}."
            )
        return SAMPLES

    def build(self, open_model: Callable[[ModelPlan], Any]) -> Any:
        """The evaluator. Raises: ValueError, with the place, for what it refuses."""
        values = {k: open_model(v) if isinstance(v, ModelPlan) else v for k, v in self.settings.items()}
        data = self.read()
        try:
            return self.kind(**data, **values)
        except ValueError as error:
            raise ValueError(f"{self.place}: {error}") from error

    def _arguments(self, rows: Dataset) -> dict[str, Any]:
        takes = parameters(self.kind)
        found = {argument: rows[column][:] for argument, column in self.columns.items()}
        for argument, values in found.items():
            hint = takes[argument].annotation if argument in takes else Sequence[str]
            if fits([1], hint) and not fits([0.5], hint):
                found[argument] = values = [_whole(value) for value in values]
            odd = next((at for at, value in enumerate(values) if not fits([value], hint)), None)
            if odd is not None:
                raise ValueError(
                    f"{self.place}: the column {self.columns[argument]!r} shall be {argument}, {described(hint)}; but "
                    f"row {odd + 1} holds {shown(values[odd])}."
                )
        for whole, parts in OF_TWO.items():
            if parts[0] in found and whole in takes:
                found[whole] = list(zip(*(found.pop(one) for one in parts), strict=True))
        return found

    def _pairs(self, rows: Dataset) -> dict[str, Any]:
        queries, documents = (rows[self.columns[name]][:] for name in FROM_PAIRS)
        ids = [{text: f"{kind}{at}" for at, text in enumerate(dict.fromkeys(some))} for kind, some in
               (("q", queries), ("d", documents))]  # fmt: skip
        relevant: dict[str, set[str]] = {}
        for query, document in zip(queries, documents, strict=True):
            relevant.setdefault(ids[0][query], set()).add(ids[1][document])
        by_id = [{identity: text for text, identity in some.items()} for some in ids]
        return dict(zip(RETRIEVAL, (*by_id, relevant), strict=True))


def _whole(value: Any) -> Any:
    """A number without a fraction as a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def evaluator_plan(
    value: Any, place: str, known: Mapping[str, Made], folder: Path, open_plan: OpenPlan
) -> EvaluatorPlan:
    """An evaluator, as the file describes it.

    Args:
        known: name -> class.
        folder: relative paths begin here.
        open_plan: reads the settings of a model.

    Raises: ValueError for names, keys and values that are not expected.
    """
    name, section = named_class(value, place, known, "EmbeddingSimilarityEvaluator: {path: ..., name: sts-dev}")
    takes = parameters(known[name])
    data = [one for one, parameter in takes.items() if parameter.default is parameter.empty]
    odd = [one for one in data if one in ONLY_IN_PYTHON]
    if odd:
        raise ValueError(f"{section.place} needs {odd[0]}, which cannot be said in a file: run it in Python.")
    has_rows = "path" in section.values or "hub" in section.values
    own = [one for one in takes if one in READERS and not fits(["a text"], takes[one].annotation)]
    needs_rows = [column for one in data if one not in own for column in OF_TWO.get(one, (one,))]
    from_pairs = has_rows and data == list(RETRIEVAL)
    section.only([*takes, *(OF_DATASET if needs_rows or from_pairs else ())])
    plan = EvaluatorPlan(known[name], section.place, from_pairs=from_pairs)
    if needs_rows or from_pairs:
        plan.data = DatasetPlan.of(section, folder)
        plan.columns = _own_columns(section, plan.data, FROM_PAIRS if from_pairs else needs_rows)
    for key, given in section.values.items():
        if key in own:
            plan.own[key] = dataset_plan(section, key, folder, OF_DATASET)
        elif key in MODELS:
            plan.settings[key] = open_plan(section.values, key, section.at(key))
        elif key in data:
            what = "two columns" if key in OF_TWO else "a column"
            columns = ", ".join(f"{column}: ..." for column in OF_TWO.get(key, (key,)))
            raise ValueError(f"{section.at(key)} is {what} of the dataset: give columns: {{{columns}}}.")
        elif key not in OF_DATASET:
            plan.settings[key] = checked(given, takes[key], section.at(key))
    of_rows = [one for one in data if one not in own]
    complete = [*of_rows, *plan.own, *(RETRIEVAL if from_pairs else ())]
    check_complete(section, takes, given=complete)
    return plan


def _own_columns(section: Section, plan: DatasetPlan, arguments: Any) -> Columns:
    """Argument -> column: as ``columns`` says, by name or in order; else columns with the arguments' names."""
    given = plan.columns
    plan.columns = None
    if given is None:
        return {argument: argument for argument in arguments}
    if isinstance(section.values["columns"], dict):
        section.section("columns").only(arguments)
        missing = [argument for argument in arguments if argument not in given]
        if missing:
            raise ValueError(f"{section.at('columns')}: expected a column for each of {list(arguments)}, found none "
                             f"for {missing}.")  # fmt: skip
        return given
    if len(given) != len(arguments):
        raise ValueError(
            f"{section.at('columns')}: expected {len(arguments)} columns, for {', '.join(arguments)}; found "
            f"{list(given)}."
        )
    return dict(zip(arguments, given, strict=True))


def _columns(plan: DatasetPlan, rows: Dataset, usual: Mapping[str, tuple[str, ...]]) -> Columns:
    """What a column is for -> its name: as the file says, by the usual names, else by order."""
    place = f"{plan.place}.columns"
    needed = [name for name in usual if name not in OPTIONAL]
    if plan.columns is not None:
        given = plan.columns
        for name in given.values():
            one_of(f"{place}: a column", name, rows.column_names)
        if list(given) == list(given.values()) and not set(given) <= set(usual):  # a list, in order
            given = dict(zip(usual, given, strict=False))
        for name in given:
            one_of(f"a key of {place}", name, usual)
        if not set(needed) <= set(given):
            raise ValueError(f"{place}: expected columns for {', '.join(needed)}; found {list(plan.columns.values())}.")
        return given
    found = {name: next((one for one in names if one in rows.column_names), None) for name, names in usual.items()}
    if all(found[name] is not None for name in needed):
        return {name: column for name, column in found.items() if column is not None}
    if len(rows.column_names) < len(needed):
        raise ValueError(f"{place}: expected columns for {', '.join(needed)}; found {rows.column_names}.")
    return dict(zip(needed, rows.column_names, strict=False))


def check_names(plans: list[EvaluatorPlan]) -> None:
    """Raises: ValueError for two evaluators whose metrics would have the same names."""
    seen: set[tuple[Any, Any]] = set()
    for plan in plans:
        name = expect(plan.settings.get("name", ""), f"{plan.place}.name", str)
        key = (plan.kind, name)
        if key in seen:
            raise ValueError(
                f"{plan.place}.name: there are two {plan.kind.__name__} named {name!r}: give each its name."
            )
        seen.add(key)
