"""Losses of sparse encoders: a loss inside, and what keeps the embeddings sparse (SPLADE) or faithful (CSR)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from ..modules.sparse_autoencoder import SparseAutoEncoder
from .base import Components, Features, Loss, Wrapper
from .checks import at_least
from .distillation import MSELoss
from .gradcache import GradCache
from .sparse_inner import SparseMultipleNegativesRankingLoss
from .sparse_objectives import flops, normalized_mse
from .teacher_objectives import embedding_mse

logger = logging.getLogger(__name__)

OUTPUTS = (
    "sentence_embedding",
    "sentence_embedding_backbone",
    "decoded_embedding_k",
    "decoded_embedding_4k",
    "decoded_embedding_k_pre_bias",
)
"""What ``CSRLoss`` asks of the features that the model returns; see ``SparseAutoEncoder``."""
IDLE = "decoded_embedding_aux"
"""Likewise, where there is one."""
OPTIONAL = (
    "query_regularizer_weight",
    "document_regularizer",
    "query_regularizer",
    "document_regularizer_threshold",
    "query_regularizer_threshold",
    "use_document_regularizer_only",
)
"""What the configuration of ``SpladeLoss`` does not name where it was not given."""


class SparseMSELoss(MSELoss):
    """``MSELoss``, alone or inside of ``SpladeLoss`` or ``CSRLoss``; same arguments, columns and labels."""


class FlopsLoss(Loss):
    """How many products two embeddings need, smoothly: a regulariser for ``SpladeLoss``.

    Args:
        model: the encoder to train.
        threshold: embeddings with at most so many numbers other than 0 cost nothing; None: all cost.

    Source: Paria et al. 2020, https://arxiv.org/abs/2004.05665
    """

    citations = ("paria2020minimizing",)

    def __init__(self, model: nn.Module, threshold: float | None = None) -> None:
        super().__init__(model)
        self.threshold = threshold

    def compute_loss_from_embeddings(self, embeddings: Tensor | list[Tensor], labels: Tensor | None = None) -> Tensor:
        """The cost of (B, V), or of several columns as one."""
        rows = embeddings if isinstance(embeddings, Tensor) else torch.cat(embeddings)
        return flops(rows, self.threshold)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> NoReturn:
        """Raises: NotImplementedError."""
        raise NotImplementedError(
            "FlopsLoss is not intended to be used directly. Use it as a regularizer within the SpladeLoss class."
        )


class SpladeLoss(Wrapper):
    """A loss, and regularisers that keep the embeddings of documents and of queries sparse.

    Args:
        model: the encoder to train.
        loss: the loss inside, of the same model; anything with ``compute_loss_from_embeddings(embeddings, labels)``.
        document_regularizer_weight: of the regulariser of all columns but the first.
        query_regularizer_weight: of the regulariser of the first column; None: none, as queries need where a model
            does not compute them by a network.
        document_regularizer, query_regularizer: modules with ``compute_loss_from_embeddings(embeddings)``, (B, V) ->
            (); None: ``FlopsLoss``.
        document_regularizer_threshold, query_regularizer_threshold: those of ``FlopsLoss``.
        use_document_regularizer_only: all columns are documents.

    Both weights are read at every step, so that they may grow in training (``training.regularizer_weights``).

    Columns and labels: those of the loss. The loss has the parts "base_loss" (or those of the loss inside),
    "document_regularizer_loss" and "query_regularizer_loss".
    Raises: ValueError for a loss or regulariser that is not computed from embeddings.
    Source: Formal et al. 2022, https://arxiv.org/abs/2205.04733
    """

    citations: ClassVar[tuple[str, ...]] = ("formal2022distillation",)

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        document_regularizer_weight: float,
        query_regularizer_weight: float | None = None,
        document_regularizer: nn.Module | None = None,
        query_regularizer: nn.Module | None = None,
        document_regularizer_threshold: int | None = None,
        query_regularizer_threshold: int | None = None,
        use_document_regularizer_only: bool = False,
    ) -> None:
        super().__init__(model, of_embeddings("loss", loss, type(self).__name__))
        if use_document_regularizer_only and query_regularizer_weight is not None:
            logger.warning(
                "query_regularizer_weight is ignored with use_document_regularizer_only: all columns are documents. "
                "Leave one of them out."
            )
            query_regularizer_weight = None
        elif query_regularizer_weight is None and not use_document_regularizer_only:
            logger.warning(
                "query_regularizer_weight is None, so nothing keeps queries sparse: as it should be for an "
                "inference-free model. Otherwise set it to a number above 0."
            )
        self.document_regularizer_weight = document_regularizer_weight
        self.query_regularizer_weight = query_regularizer_weight
        self.document_regularizer: Any = self._regularizer(document_regularizer, document_regularizer_threshold)
        self.query_regularizer: Any = self._regularizer(query_regularizer, query_regularizer_threshold)
        self.use_document_regularizer_only = use_document_regularizer_only

    def _regularizer(self, given: nn.Module | None, threshold: float | None) -> Any:
        if given is None:
            return FlopsLoss(self.model, threshold)
        return of_embeddings("regularizer", given, type(self).__name__)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Components:
        if self.use_document_regularizer_only:
            documents = at_least(type(self).__name__, embeddings, 1, "texts")
        else:
            documents = at_least(type(self).__name__, embeddings, 2, "a query and a document")[1:]
        parts = named_parts(self.loss.compute_loss_from_embeddings(embeddings, labels))
        parts["document_regularizer_loss"] = self.document_regularizer_weight * (
            self.document_regularizer.compute_loss_from_embeddings(torch.cat(documents))
        )
        if self.query_regularizer_weight is not None:
            parts["query_regularizer_loss"] = self.query_regularizer_weight * (
                self.query_regularizer.compute_loss_from_embeddings(embeddings[0])
            )
        return parts

    @property
    def document_regularizer_threshold(self) -> float | None:
        """That of ``FlopsLoss``; None for another regulariser."""
        return _threshold(self.document_regularizer)

    @property
    def query_regularizer_threshold(self) -> float | None:
        """That of ``FlopsLoss``; None for another regulariser."""
        return _threshold(self.query_regularizer)

    def get_config_dict(self) -> dict[str, Any]:
        """The arguments of the constructor but for the model, without those of the regularisers that were not given."""
        given = super().get_config_dict().items()
        return {name: value for name, value in given if name not in OPTIONAL or not _is_default(value)}


class CachedSpladeLoss(GradCache, SpladeLoss):
    """``SpladeLoss`` with a gradient cache: any batch size in the memory of a small one.

    Args:
        model: the encoder to train.
        loss, document_regularizer_weight, query_regularizer_weight, document_regularizer, query_regularizer,
            document_regularizer_threshold, query_regularizer_threshold, use_document_regularizer_only: see
            ``SpladeLoss``. The loss inside needs no cache of its own.
        mini_batch_size: so many texts are run at once; changes memory and speed, not the loss.
        mini_batch_num_tokens: instead, at most so many tokens with padding.
        show_progress_bar: show one for the second run.

    Columns, labels and parts: those of ``SpladeLoss``.
    Source: Gao et al. 2021, https://arxiv.org/abs/2101.06983
    """

    citations = ("gao2021scaling", "formal2022distillation")

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        document_regularizer_weight: float,
        query_regularizer_weight: float | None = None,
        document_regularizer: nn.Module | None = None,
        query_regularizer: nn.Module | None = None,
        document_regularizer_threshold: int | None = None,
        query_regularizer_threshold: int | None = None,
        use_document_regularizer_only: bool = False,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(
            model,
            loss,
            document_regularizer_weight,
            query_regularizer_weight,
            document_regularizer,
            query_regularizer,
            document_regularizer_threshold,
            query_regularizer_threshold,
            use_document_regularizer_only,
        )
        self.keep_parts(mini_batch_size, mini_batch_num_tokens, show_progress_bar)


class CSRReconstructionLoss(Loss):
    """How well an autoencoder gives back what it read: a part of ``CSRLoss``.

    Args:
        model: the encoder to train, with a ``SparseAutoEncoder``.
        beta: weight of the part that revives idle latents.

    Source: Wen et al. 2025, https://arxiv.org/abs/2503.01776; Gao et al. 2024, https://arxiv.org/abs/2406.04093
    """

    citations = ("wen2025beyond",)

    def __init__(self, model: nn.Module, beta: float = 1.0) -> None:
        super().__init__(model)
        self.beta = beta

    def compute_loss_from_embeddings(  # type: ignore[override]  # not from embeddings alone
        self, outputs: Sequence[Mapping[str, Tensor | None]], labels: Tensor | None = None
    ) -> Components:
        """Three parts, the means of the columns.

        Args:
            outputs: what the model made of each column, with the keys of ``SparseAutoEncoder``.

        Returns:
            reconstruction_loss_k: mean squared difference of what was read and what the k largest latents give back.
            reconstruction_loss_4k: an eighth of that of the 4k largest.
            reconstruction_loss_aux: beta * ``normalized_mse`` of what the idle latents give back and what the k
                largest leave over, as a constant; 0 without idle latents.
        """
        rows = [self._of_column(column) for column in at_least(type(self).__name__, list(outputs), 1, "texts")]
        return {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}

    def _of_column(self, found: Mapping[str, Any]) -> Components:
        read = found["sentence_embedding_backbone"]
        idle = found.get(IDLE)
        left = read - found["decoded_embedding_k_pre_bias"].detach()
        return {
            "reconstruction_loss_k": embedding_mse(found["decoded_embedding_k"], read),
            "reconstruction_loss_4k": embedding_mse(found["decoded_embedding_4k"], read) / 8,
            "reconstruction_loss_aux": read.new_zeros(()) if idle is None else self.beta * normalized_mse(idle, left),
        }

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> NoReturn:
        """Raises: NotImplementedError."""
        raise NotImplementedError(
            "CSRReconstructionLoss is not intended to be used standalone. Use it within CSRLoss instead."
        )


class CSRLoss(Wrapper):
    """A loss on sparse embeddings, and how well the autoencoder that made them gives back the dense ones.

    Args:
        model: the encoder to train, with a ``SparseAutoEncoder``.
        loss: the loss inside, of the same model; None: ``SparseMultipleNegativesRankingLoss``.
        beta: weight of the part that revives idle latents.
        gamma: weight of the loss inside.

    Columns and labels: those of the loss. The loss has the parts of ``CSRReconstructionLoss`` and "base_loss" (or
    those of the loss inside). If the loss inside has a gradient cache, a latent is idle for each of its parts alone.
    Raises: ValueError for a loss that is not computed from embeddings.
    Source: Wen et al. 2025, https://arxiv.org/abs/2503.01776
    """

    citations = ("wen2025beyond",)

    def __init__(self, model: nn.Module, loss: nn.Module | None = None, beta: float = 0.1, gamma: float = 1.0) -> None:
        inner = SparseMultipleNegativesRankingLoss(model) if loss is None else loss
        super().__init__(model, of_embeddings("loss", inner, type(self).__name__))
        self.reconstruction_loss = CSRReconstructionLoss(model, beta)
        self.gamma = gamma

    @property
    def beta(self) -> float:
        """Weight of the part that revives idle latents."""
        return self.reconstruction_loss.beta

    @beta.setter
    def beta(self, value: float) -> None:
        self.reconstruction_loss.beta = value

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor | Components:
        outputs = _Outputs(self.model)

        def objective(rows: list[Tensor], labels: Tensor | None) -> Components:
            columns = [outputs.apart(one) for one in rows]
            parts = self.reconstruction_loss.compute_loss_from_embeddings(columns)
            embeddings = [column["sentence_embedding"] for column in columns]
            base = named_parts(self.loss.compute_loss_from_embeddings(embeddings, labels))
            return parts | {name: self.gamma * value for name, value in base.items()}

        return self.run(list(sentence_features), labels, objective, outputs.embed)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} needs what the autoencoder read and gave back, not only embeddings: make it the "
            "outermost loss, around the others."
        )


class _Outputs:
    """The outputs of a model that ``CSRLoss`` needs, as one tensor, so that it may be run in any way; and back."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.widths: dict[str, int] = {}
        self.use = _Use([part for part in model.modules() if isinstance(part, SparseAutoEncoder)])

    def embed(self, features: Features) -> Tensor:
        """(B, sum of the widths). Raises: ValueError for a model without an autoencoder."""
        with self.use.noted_once():
            found = self.model(dict(features))
        missing = [name for name in OUTPUTS if name not in found]
        if missing:
            raise ValueError(
                f"CSRLoss needs a model with a SparseAutoEncoder; this one does not give {', '.join(missing)}. Use "
                "SpladeLoss, or SparseEncoder(modules=[..., SparseAutoEncoder(...)])."
            )
        parts = {name: found[name] for name in (*OUTPUTS, IDLE) if found.get(name) is not None}
        self.widths = {name: part.shape[-1] for name, part in parts.items()}
        return torch.cat(list(parts.values()), dim=-1)

    def apart(self, rows: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.widths, torch.split(rows, list(self.widths.values()), dim=-1), strict=True))


class _Use:
    """Autoencoders count which latents are in use once for a batch, into however many parts it is cut.

    Each part sees the counts from before the batch, also when it is run again for its gradients.
    """

    def __init__(self, encoders: Sequence[SparseAutoEncoder]) -> None:
        self.encoders = encoders
        self.before = [one.stats_last_nonzero.clone() for one in encoders]
        self.after: list[Tensor] | None = None

    @contextmanager
    def noted_once(self) -> Iterator[None]:
        """Around the run of one part."""
        for one, before in zip(self.encoders, self.before, strict=True):
            one.stats_last_nonzero.copy_(before)
        yield
        found = [one.stats_last_nonzero.clone() for one in self.encoders]
        known = found if self.after is None else self.after
        self.after = [torch.minimum(*pair) for pair in zip(found, known, strict=True)]  # used by any part
        for one, after in zip(self.encoders, self.after, strict=True):
            one.stats_last_nonzero.copy_(after)


def named_parts(loss: Tensor | Components) -> Components:
    """The parts of a loss inside; "base_loss" where it is one number."""
    return dict(loss) if isinstance(loss, dict) else {"base_loss": loss}


def of_embeddings(role: str, module: nn.Module, outer: str) -> Any:
    """The module. Raises: ValueError unless it is computed from embeddings."""
    own = getattr(type(module), "compute_loss_from_embeddings", None)
    if own is None or own is Loss.compute_loss_from_embeddings:
        raise ValueError(
            f"The provided {role} does not have a 'compute_loss_from_embeddings' method, which is required for {outer};"
            f" got {type(module).__name__}. Give it one that makes a number of the embeddings (list of (B, D) for a "
            "loss, and labels; one (B, V) for a regularizer)."
        )
    return module


def _threshold(regularizer: nn.Module) -> float | None:
    return regularizer.threshold if isinstance(regularizer, FlopsLoss) else None


def _is_default(value: Any) -> bool:
    return value is None or value is False or value == FlopsLoss.__name__
