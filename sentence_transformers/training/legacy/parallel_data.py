"""Translations with the teacher's embedding of their source as label. Knows nothing of how the student is trained."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from torch.utils.data import Dataset

from .data import InputExample
from .readers import opened

logger = logging.getLogger(__name__)

Translations = tuple[str, list[str]]
"""A source sentence, and it with all its translations, each once."""


class Teacher(Protocol):
    """What embeds the source sentences."""

    def encode(self, sentences: list[str], *, batch_size: int, show_progress_bar: bool, convert_to_numpy: bool) -> Any:
        """(len(sentences), D)."""


class ParallelSentencesDataset(Dataset[InputExample]):
    """Makes a student answer to a sentence and its translations as a teacher does to the sentence.

    Each example is one text and the teacher's embedding, (D,), of its source. They come in random order, in portions
    that are embedded when they are needed; the index of an example means nothing.

    Args:
        student_model: what is trained; not used here.
        teacher_model: embeds the source sentences.
        batch_size: texts that the teacher embeds at once.
        use_embedding_cache: keep the embedding of every source sentence.

    Source: Reimers and Gurevych 2020, https://arxiv.org/abs/2004.09813
    """

    def __init__(
        self, student_model: Any, teacher_model: Teacher, batch_size: int = 8, use_embedding_cache: bool = True
    ) -> None:
        self.student_model = student_model
        self.teacher_model = teacher_model
        self.batch_size = batch_size
        self.use_embedding_cache = use_embedding_cache
        self.datasets: list[list[Translations]] = []
        self.datasets_iterator: list[int] = []
        self.dataset_indices: list[int] = []
        self.cache: list[InputExample] = []
        self.embedding_cache: dict[str, Any] = {}
        self.num_sentences = 0

    def load_data(
        self, filepath: str, weight: int = 100, max_sentences: int | None = None, max_sentence_length: int | None = 128
    ) -> None:
        """Add the lines of a file, plain or ``.gz``: a source sentence and its translations, divided by tabs.

        Args:
            weight, max_sentences, max_sentence_length: as for ``add_dataset``.
        """
        logger.info("Loading %s", filepath)
        with opened(filepath) as lines:
            rows = (line.strip().split("\t") for line in lines)
            self.add_dataset(rows, weight, max_sentences, max_sentence_length)

    def add_dataset(
        self,
        parallel_sentences: Iterable[Sequence[str]],
        weight: int = 100,
        max_sentences: int | None = None,
        max_sentence_length: int | None = 128,
    ) -> None:
        """Add sentences with their translations.

        Args:
            parallel_sentences: rows of a source sentence and its translations.
            weight: how many sources each portion takes from these rows.
            max_sentences: the most sources; rows behind the first one of the last are not read. None or 0 for all.
            max_sentence_length: rows with a longer text, in characters, are left out; None or 0 for no limit.
        """
        translations: dict[str, dict[str, None]] = {}
        for row in _kept(parallel_sentences, max_sentence_length):
            translations.setdefault(row[0], {}).update(dict.fromkeys(row))
            if max_sentences and len(translations) >= max_sentences:
                break
        if not translations:
            return
        self.dataset_indices.extend([len(self.datasets)] * weight)
        self.datasets.append([(source, list(texts)) for source, texts in translations.items()])
        self.datasets_iterator.append(0)
        self.num_sentences += sum(map(len, translations.values()))

    def generate_data(self) -> None:
        """Embed the next portion, and mix it into what is there."""
        entries = [self.next_entry(index) for index in self.dataset_indices]
        embeddings = self.get_embeddings([source for source, _ in entries])
        for (_, texts), embedding in zip(entries, embeddings, strict=True):
            self.cache.extend(InputExample(texts=[text], label=embedding) for text in texts)
        random.shuffle(self.cache)

    def next_entry(self, data_idx: int) -> Translations:
        """The next source of a dataset with its texts; behind the last one the dataset is shuffled."""
        dataset, at = self.datasets[data_idx], self.datasets_iterator[data_idx]
        entry = dataset[at]
        self.datasets_iterator[data_idx] = (at + 1) % len(dataset)
        if self.datasets_iterator[data_idx] == 0:
            random.shuffle(dataset)
        return entry

    def get_embeddings(self, sentences: list[str]) -> list[Any]:
        """The teacher's embedding, (D,), of each sentence; it embeds each but once."""
        known = self.embedding_cache if self.use_embedding_cache else {}
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in known]
        if new:
            settings: dict[str, Any] = {"show_progress_bar": False, "convert_to_numpy": True}
            known.update(zip(new, self.teacher_model.encode(new, batch_size=self.batch_size, **settings), strict=True))
        return [known[sentence] for sentence in sentences]

    def __len__(self) -> int:
        return self.num_sentences

    def __getitem__(self, idx: int) -> InputExample:
        """Some example. Raises: ValueError if none were added, or all with weight 0."""
        if not self.cache:
            self.generate_data()
        if not self.cache:  # an IndexError would quietly end a loop
            raise ValueError("ParallelSentencesDataset has no sentences. Call load_data or add_dataset first.")
        return self.cache.pop()


def _kept(rows: Iterable[Sequence[str]], longest: int | None) -> Iterator[Sequence[str]]:
    for row in rows:
        if not row:
            raise ValueError("Each row must start with its source sentence, but one is empty.")
        if not longest or max(map(len, row)) <= longest:
            yield row
