"""A graph as a ``Network``: packed token ids in, packed hidden states out; padded in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sentence_transformers.backend.graphs.facts import EMBEDDING, LOGITS, STATES
from sentence_transformers.backend.graphs.feeds import padded
from sentence_transformers.backend.graphs.session import Array, Session
from sentence_transformers.backend.native.heads import FILL, GENERATE
from sentence_transformers.ops.tokens import TokenIds


class GraphNetwork:
    """Runs an open graph.

    Args:
        session: the graph. task: of the transformer, one of ``native.heads``.
        padding_id: what fills the shorter rows. position_limit: the most tokens of one sequence.
    """

    threads_safe = False  # one batch at a time: a session uses all cores for each

    def __init__(self, session: Session, task: str, padding_id: int, position_limit: int | None) -> None:
        self.session, self.task = session, task
        self.padding_id, self.position_limit = padding_id, position_limit

    @property
    def device(self) -> torch.device:
        """Where inputs and outputs are, wherever the runtime computes."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The type of the outputs."""
        return torch.float32

    def run(self, tokens: TokenIds, all_layers: bool = False) -> Sequence[Tensor]:
        if all_layers:
            raise ValueError("A graph has no hidden states of every layer. Open the model with backend='torch'.")
        feeds, real = self._padded(tokens)
        return [torch.from_numpy(self._output(feeds, STATES))[real]]

    def logits(self, tokens: TokenIds) -> Tensor:
        feeds, real = self._padded(tokens)
        found = torch.from_numpy(self._output(feeds, LOGITS))
        if self.task == FILL:
            return found[real]
        if self.task == GENERATE and found.ndim == 3:  # of another exporter: all places, of which the last is wanted
            return found[torch.arange(len(found)), real.sum(1) - 1]
        return found

    def whole(self, tokens: TokenIds) -> Tensor:
        """(B, D): what comes out behind the modules that the graph holds. No sequence may be empty."""
        return torch.from_numpy(self._output(self._padded(tokens)[0], EMBEDDING))

    def _output(self, feeds: dict[str, Array], name: str) -> Array:
        if name not in self.session.outputs:
            raise ValueError(
                f"This graph gives {', '.join(self.session.outputs)}, and {name} is asked for. Export the model for "
                f"{self.task}: model_kwargs={{'export': True}}, or use backend='torch'."
            )
        return self.session.run(feeds, name)

    def _padded(self, tokens: TokenIds) -> tuple[dict[str, Array], Tensor]:
        """The inputs of the graph (B, T), and which of their places are tokens."""
        longest = max(tokens.lengths, default=0)
        if self.position_limit is not None and longest > self.position_limit:
            raise ValueError(
                f"This model reads at most {self.position_limit} tokens; got a sequence of {longest}. "
                f"Set model.max_seq_length = {self.position_limit} or less."
            )
        types = None if tokens.type_ids is None else tokens.type_ids.cpu().numpy()
        feeds, real = padded(
            tokens.ids.cpu().numpy(),
            tokens.lengths,
            self.session.inputs,
            types=types,
            visible=tokens.visible,
            padding_id=self.padding_id,
        )
        return feeds, torch.from_numpy(real)

    def apply_(self, change: Callable[[Tensor], Tensor]) -> None:
        """Nothing to move or cast: the runtime keeps the weights to itself."""
