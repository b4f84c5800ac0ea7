"""Examples and datasets of the time before ``datasets.Dataset``, which ``fit`` still takes.

They draw from the generators that ``random.seed`` and ``numpy.random.seed`` set, in the order that they always did.
Know nothing of the trainer.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from ...errors import need, positive

logger = logging.getLogger(__name__)


class InputExample:
    """Some texts that belong together, and a label.

    Args:
        guid: a name of the example.
        texts: a text for each column.
        label: a class, a score, or an embedding.
    """

    def __init__(self, guid: str = "", texts: list[str] | None = None, label: Any = 0) -> None:
        self.guid = guid
        self.texts = texts
        self.label = label

    def __str__(self) -> str:
        return f"<InputExample> label: {self.label}, texts: {'; '.join(self.texts or [])}"


class SentencesDataset(Dataset[InputExample]):
    """Examples as a dataset.

    Args:
        examples: the examples.
        model: not used; old programs pass it.
    """

    def __init__(self, examples: list[InputExample], model: Any = None) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, item: int) -> InputExample:
        return self.examples[item]


class NoDuplicatesDataLoader:
    """Batches of examples in which no text occurs twice, not counting case and space around it.

    An example that does not fit is passed over until the next round; a round starts with a shuffle.

    Args:
        train_examples: the examples; the list itself stays in order.
        batch_size: examples of each batch; what is left of a last batch is dropped.

    Attributes:
        collate_fn: what makes of a batch what is yielded; None: the list of examples.
    """

    def __init__(self, train_examples: Sequence[InputExample], batch_size: int) -> None:
        self.batch_size = positive("batch_size", batch_size)
        self.data_pointer = 0
        self.collate_fn: Callable[[list[InputExample]], Any] | None = None
        self.train_examples = list(train_examples)
        random.shuffle(self.train_examples)

    def __len__(self) -> int:
        return len(self.train_examples) // self.batch_size

    def __iter__(self) -> Iterator[Any]:
        """Raises: ValueError if no further example can come into a batch."""
        for _ in range(len(self)):
            batch = self._next_batch()
            yield batch if self.collate_fn is None else self.collate_fn(batch)

    def _next_batch(self) -> list[InputExample]:
        batch: list[InputExample] = []
        seen: set[str] = set()
        passed_over = 0
        while len(batch) < self.batch_size:
            example = self.train_examples[self.data_pointer]
            texts = {str(text).strip().lower() for text in example.texts or []}
            if seen.isdisjoint(texts):
                batch.append(example)
                seen |= texts
                passed_over = 0
            else:
                passed_over += 1
            self._advance()
            if passed_over >= 2 * len(self.train_examples):  # so each was among them since the last that fitted
                raise ValueError(
                    f"NoDuplicatesDataLoader cannot fill a batch of {self.batch_size} examples without a text twice; "
                    f"after {len(batch)} every other example repeats a text. Choose a smaller batch_size."
                )
        return batch

    def _advance(self) -> None:
        self.data_pointer += 1
        if self.data_pointer >= len(self.train_examples):
            self.data_pointer = 0
            random.shuffle(self.train_examples)


class SentenceLabelDataset(IterableDataset[InputExample]):
    """Examples in runs of one label, as losses on triplets within a batch need them.

    Each round takes the labels in a new order and draws ``samples_per_label`` different examples of each; rounds know
    nothing of each other. It ends once as many were drawn as there are. Labels with fewer examples are left out.

    Args:
        examples: with one text and a class as label.
        samples_per_label: how many of a label follow each other; the batch size should be a multiple of it.
        with_replacement: changes nothing; old programs pass it.
    """

    def __init__(
        self, examples: list[InputExample], samples_per_label: int = 2, with_replacement: bool = False
    ) -> None:
        super().__init__()
        self.samples_per_label = positive("samples_per_label", samples_per_label)
        self.with_replacement = with_replacement
        by_label: dict[Any, list[InputExample]] = {}
        for example in examples:
            by_label.setdefault(example.label, []).append(example)
        groups = [group for group in by_label.values() if len(group) >= self.samples_per_label]
        self.grouped_inputs = [example for group in groups for example in group]
        self.groups_right_border = np.cumsum([len(group) for group in groups], dtype=int).tolist()
        self.label_range = np.arange(len(groups))
        np.random.shuffle(self.label_range)  # noqa: NPY002
        logger.info(
            "%d of %d examples have one of the %d labels with at least %d examples.",
            *(len(self.grouped_inputs), len(examples), len(groups), self.samples_per_label),
        )

    def __len__(self) -> int:
        return len(self.grouped_inputs)

    def __iter__(self) -> Iterator[InputExample]:
        drawn = 0
        while drawn < len(self):
            for group in self.label_range.tolist():
                if drawn >= len(self):
                    return
                start = self.groups_right_border[group - 1] if group else 0
                places = np.arange(start, self.groups_right_border[group])
                for place in np.random.choice(places, self.samples_per_label, replace=False):  # noqa: NPY002
                    drawn += 1
                    yield self.grouped_inputs[place]
            np.random.shuffle(self.label_range)  # noqa: NPY002


class DenoisingAutoEncoderDataset(Dataset[InputExample]):
    """Pairs of a damaged sentence and the sentence, for ``DenoisingAutoEncoderLoss``.

    Args:
        sentences: the sentences.
        noise_fn: damages a sentence, anew each time; None for ``delete``, which needs nltk.

    Raises: ImportError if nltk is needed but is not there.
    """

    def __init__(self, sentences: list[str], noise_fn: Callable[[str], str] | None = None) -> None:
        if noise_fn is None:
            need("nltk", extra="words", what="The noise of DenoisingAutoEncoderDataset")
        self.sentences = sentences
        self.noise_fn: Callable[[str], str] = noise_fn or self.delete

    def __getitem__(self, item: int) -> InputExample:
        sentence = self.sentences[item]
        return InputExample(texts=[self.noise_fn(sentence), sentence])

    def __len__(self) -> int:
        return len(self.sentences)

    @staticmethod
    def delete(text: str, del_ratio: float = 0.6) -> str:
        """The text without some of its words.

        Args:
            text: in a language whose words nltk's ``word_tokenize`` finds.
            del_ratio: the probability of each word to go; one word always stays.

        Source: Wang, Reimers and Gurevych 2021, https://arxiv.org/abs/2104.06979
        """
        nltk = need("nltk", extra="words", what="Deleting words")
        words = nltk.word_tokenize(text)
        if not words:
            return text
        stays = np.random.rand(len(words)) > del_ratio  # noqa: NPY002
        if not stays.any():
            stays[np.random.choice(len(words))] = True  # noqa: NPY002
        treebank = need("nltk.tokenize.treebank", extra="words", what="Deleting words")
        joined: str = treebank.TreebankWordDetokenizer().detokenize(
            [word for word, stay in zip(words, stays, strict=True) if stay]
        )
        return joined


class ContrastiveTensionDataLoader:
    """Batches of pairs for ``ContrastiveTensionLoss``: a sentence with itself (label 1), then others (label 0).

    Args:
        sentences: the sentences; the list itself stays in order.
        batch_size: pairs of each batch, a multiple of ``pos_neg_ratio``.
        pos_neg_ratio: one of so many pairs is of a sentence with itself.

    Attributes:
        collate_fn: what makes of a batch what is yielded; None: the list of examples.

    Raises: ValueError if the batch size is no multiple.
    Source: Carlsson et al. 2021, https://openreview.net/forum?id=Ov_sMNau-PF
    """

    def __init__(self, sentences: Sequence[str], batch_size: int, pos_neg_ratio: int = 8) -> None:
        self.sentences = list(sentences)
        self.batch_size = positive("batch_size", batch_size)
        self.pos_neg_ratio = positive("pos_neg_ratio", pos_neg_ratio)
        self.collate_fn: Callable[[list[InputExample]], Any] | None = None
        if batch_size % pos_neg_ratio != 0:
            raise ValueError(
                f"ContrastiveTensionDataLoader was loaded with a pos_neg_ratio of {pos_neg_ratio} and a batch size of "
                f"{batch_size}. The batch size must be divisible by the pos_neg_ratio"
            )

    def __len__(self) -> int:
        same = self.batch_size // self.pos_neg_ratio
        return len(self.sentences) // (2 * self.batch_size - same)

    def __iter__(self) -> Iterator[Any]:
        random.shuffle(self.sentences)
        left = iter(self.sentences)
        for _ in range(len(self)):
            batch = [self._pair(left, is_same=at % self.pos_neg_ratio == 0) for at in range(self.batch_size)]
            yield batch if self.collate_fn is None else self.collate_fn(batch)

    @staticmethod
    def _pair(left: Iterator[str], is_same: bool) -> InputExample:
        first = next(left)
        return InputExample(texts=[first, first if is_same else next(left)], label=int(is_same))
