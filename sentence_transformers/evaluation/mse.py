"""How far the embeddings of a student are from those of its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.tensors import is_sparse, to_coo, to_tensor
from .embedding import EmbeddingEvaluator, Encoded, equally_many
from .reporting import Measured, csv_name


class MSEEvaluator(EmbeddingEvaluator):
    """The mean squared difference between a student's embeddings of targets and a teacher's of their sources.

    Args:
        source_sentences: n texts for the teacher. target_sentences: n texts for the student, such as translations.
        teacher_model: encodes the sources, now. show_progress_bar: while encoding.
        batch_size: the most texts that are encoded together. name: of the data, put before the metric.
        write_csv: add a row to ``mse_evaluation_<name>_results.csv``.
        truncate_dim: keep only the first so many dimensions of both.

    Metrics: ``negative_mse``, -100 times the mean over texts and dimensions; higher is better. The CSV file has it
    positive.

    Raises: ValueError if the lengths differ, or without a teacher.
    Source: Reimers and Gurevych 2020, https://arxiv.org/abs/2004.09813
    """

    primary_metric = "negative_mse"

    def __init__(
        self,
        source_sentences: Sequence[str],
        target_sentences: Sequence[str],
        teacher_model: Any = None,
        show_progress_bar: bool | None = False,
        batch_size: int = 32,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
    ) -> None:
        equally_many(source_sentences=source_sentences, target_sentences=target_sentences)
        if teacher_model is None:
            raise ValueError("MSEEvaluator needs a teacher_model to compare with.")
        # the underscore before an empty name is kept: scripts look for the file
        super().__init__(
            f"mse_evaluation_{name}_results.csv", name, batch_size, show_progress_bar, write_csv, truncate_dim
        )
        self.target_sentences = target_sentences
        (sources,) = self.encode(teacher_model, source_sentences)
        self.source_embeddings = sources.take()

    def measure(self, model: Any) -> Measured:
        (student,) = self.encode(model, self.target_sentences)
        error = 100 * mean_squared_difference(self.source_embeddings, student)
        return self.measured({"target": student}, {"negative_mse": -error}, {"MSE": error}, "negative_mse")

    @property
    def description(self) -> str:
        return "Knowledge Distillation"


class MSEEvaluatorFromDataFrame(EmbeddingEvaluator):
    """The same for several pairs of languages, whose texts are the columns of a table.

    Args:
        dataframe: the rows: language -> text; where one of both texts is empty, the row does not count.
        teacher_model: encodes the sources, now.
        combinations: (language of the source, language of the target).
        batch_size: the most texts that are encoded together. name: of the data, put before the metric.
        write_csv: add a row to ``mse_evaluation_<name>_results.csv``, with the error of each combination.
        truncate_dim: keep only the first so many dimensions of both.

    Metrics: ``negative_mse``, the mean over the combinations.

    Raises: KeyError if a row has no such language; ValueError if no row has texts for a combination.
    """

    primary_metric = "negative_mse"

    def __init__(
        self,
        dataframe: Sequence[dict[str, str]],
        teacher_model: Any,
        combinations: Sequence[tuple[str, str]],
        batch_size: int = 8,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
    ) -> None:
        super().__init__(csv_name("mse_evaluation", name), name, batch_size, False, write_csv, truncate_dim)
        self.combinations = combinations
        self.data = {tuple(pair): _texts(dataframe, *pair) for pair in combinations}
        sources = list(dict.fromkeys(text for column, _ in self.data.values() for text in column))
        self.teacher_embeddings = dict(zip(sources, self.embed_inputs(teacher_model, sources), strict=True))

    def measure(self, model: Any) -> Measured:
        columns = self.encode(model, *(targets for _, targets in self.data.values()))
        row = {}
        for (pair, (sources, _)), student in zip(self.data.items(), columns, strict=True):
            teacher = np.stack([np.asarray(self.teacher_embeddings[text]) for text in sources])
            row["-".join(pair)] = 100 * mean_squared_difference(teacher, student)
        encoded = {"-".join(pair): column for pair, column in zip(self.data, columns, strict=True)}
        return self.measured(encoded, {"negative_mse": -float(np.mean(list(row.values())))}, row, "negative_mse")

    @property
    def description(self) -> str:
        return "Knowledge Distillation"


def mean_squared_difference(teacher: Any, student: Encoded) -> float:
    """The mean over all n * D values, in float64.

    Args:
        teacher: (n, D) array or tensor, dense or sparse. student: n embeddings of width D; sparse if the teacher is.

    Raises: ValueError if the widths differ.
    """
    total, all_of_it = 0.0, Encoded(teacher, np.arange(len(student)))
    for some in student.blocks():
        left, right = to_tensor(all_of_it.take(some)), to_tensor(student.take(some))
        if left.shape != right.shape:
            raise ValueError(
                f"The teacher's embeddings have {left.shape[-1]} dimensions, the student's {right.shape[-1]}: "
                "set truncate_dim, or give the student a Dense module."
            )
        difference = left.double() - right.to(left.device).double()
        values = to_coo(difference).values() if is_sparse(difference) else difference
        total += float(values.square().sum())
    return total / (len(student) * teacher.shape[-1]) if len(student) else float("nan")


def _texts(rows: Sequence[dict[str, str]], source: str, target: str) -> tuple[list[str], list[str]]:
    """The pairs of texts of two languages that are both there."""
    for at, row in enumerate(rows):
        for language in (source, target):
            if language not in row:
                raise KeyError(f"{language!r} is not a column of row {at}, which has {list(row)}.")
    pairs = [(row[source], row[target]) for row in rows]
    full = [(one, other) for one, other in pairs if one and other and one.strip() and other.strip()]
    if not full:
        raise ValueError(f"No row has a text for both {source!r} and {target!r}.")
    return [one for one, _ in full], [other for _, other in full]
