"""Large batches in little memory: the loss of all embeddings at once, the model in small parts.

Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
https://arxiv.org/abs/2101.06983
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import positive
from .base import Components, Embed, Features, Loss, Objective, total
from .joining import cat_rows


@dataclass(frozen=True)
class _Part:
    """Some rows of one column, and the state of the random numbers before they were run."""

    features: Features
    states: list[tuple[torch.device, Tensor]]
    column: int
    rows: slice


class GradCache(Loss):
    """Runs the columns in parts: first without gradients, then, once the loss is known, again with them.

    To be put before the loss whose objective is used: ``class CachedX(GradCache, X)``. Values and gradients are those
    of ``X``; memory is that of one part, time about a third more.

    Attributes:
        mini_batch_size: so many rows are run at once.
        mini_batch_num_tokens: instead, at most so many tokens with padding; at least one row.
        show_progress_bar: show one for the second run.
    """

    uses_gradient_cache: bool = True
    mini_batch_size: int
    mini_batch_num_tokens: int | None
    show_progress_bar: bool

    def keep_parts(self, mini_batch_size: int, mini_batch_num_tokens: int | None, show_progress_bar: bool) -> None:
        """Set how the columns are cut. Raises: ValueError for a size below 1."""
        self.mini_batch_size = positive("mini_batch_size", mini_batch_size)
        self.mini_batch_num_tokens = (
            None if mini_batch_num_tokens is None else positive("mini_batch_num_tokens", mini_batch_num_tokens)
        )
        self.show_progress_bar = show_progress_bar

    def run(
        self, features: list[Features], labels: Tensor | None, objective: Objective, embed: Embed | None = None
    ) -> Tensor | Components:
        embed = embed or self.embed
        parts: list[_Part] = []
        embeddings: list[Tensor] = []
        for column, whole in enumerate(features):
            found = []
            for rows, some in self._cut(whole):  # with gradients: features may have some, too
                parts.append(_Part(some, _random_states(some), column, rows))
                with torch.no_grad():
                    found.append(embed(some))
            embeddings.append(cat_rows(found))
        if not torch.is_grad_enabled():
            return objective(embeddings, labels)
        casts = _autocast_now(embeddings[0].device.type)
        leaves = [rows.detach().requires_grad_() for rows in embeddings]
        result = objective(leaves, labels)
        minimised = total(result)
        # parameters that the objective reads by itself: of this loss, of one around it, of the model
        own = _leaves_below(minimised, besides=leaves)
        gradients = torch.autograd.grad(minimised, [*leaves, *own], allow_unused=True)
        of_own = [pair for pair in zip(own, gradients[len(leaves) :], strict=True) if pair[1] is not None]
        for column, gradient in enumerate(gradients[: len(leaves)]):
            if gradient is None:
                raise ValueError(
                    f"{type(self).__name__} uses a gradient cache, but column {column} has no part in the loss. "
                    "Leave the column out, or use the loss without the cache."
                )

        def run_again(scale: Tensor) -> None:
            if of_own:
                with self._unless_last(False):
                    _backward([one for one, _ in of_own], [gradient for _, gradient in of_own], scale)
            for place, part in enumerate(self._with_progress(parts)):
                with self._unless_last(place == len(parts) - 1), torch.enable_grad(), _replayed(part.states):
                    gradient = gradients[part.column]
                    assert gradient is not None
                    with casts:
                        found = embed(part.features)
                    if found.requires_grad:  # not so for a frozen model, below a loss with parameters of its own
                        _backward([found], [_unpadded(gradient[part.rows], found)], scale)

        return _with_hook(result, run_again)

    def _cut(self, features: Features) -> Iterator[tuple[slice, Features]]:
        """The parts of one column. Raises: ValueError as ``cut``, or for tokens of all inputs in one row."""
        if "offsets" in features:
            raise ValueError(
                f"{type(self).__name__} cannot cut the inputs of a StaticEmbedding into parts, and need not: they take "
                "little memory. Use the loss without the cache."
            )
        return cut(features, self.mini_batch_size, self.mini_batch_num_tokens)

    def _unless_last(self, is_last: bool) -> AbstractContextManager[Any]:
        """Several processes exchange gradients once, with the last part."""
        no_sync = getattr(self.model, "no_sync", None)
        return nullcontext() if is_last or no_sync is None else no_sync()

    def _with_progress(self, parts: list[_Part]) -> Any:
        if not self.show_progress_bar:
            return parts
        from tqdm.auto import tqdm

        return tqdm(parts, desc="Embed mini-batches", leave=False)


def cut(features: Features, size: int, tokens: int | None = None) -> Iterator[tuple[slice, Features]]:
    """Some rows of a column at a time, without padding that none of them needs.

    Args:
        size: so many rows.
        tokens: instead, at most so many tokens with padding; at least one row.

    Raises: ValueError for a limit of tokens where they cannot be counted.
    """
    count, widths = _rows(features), _widths(features)
    for rows in _slices(count, widths, size, tokens):
        yield rows, _part(features, rows, count, max(widths[rows]) if widths else None)


def _slices(count: int, widths: list[int] | None, size: int, tokens: int | None) -> Iterator[slice]:
    if tokens is None:
        return (slice(start, min(start + size, count)) for start in range(0, count, size))
    if widths is None:
        raise ValueError("mini_batch_num_tokens needs an attention_mask in the features. Use mini_batch_size.")
    return _by_tokens(widths, tokens)


def _unpadded(gradient: Tensor, rows: Tensor) -> Tensor:
    """The gradient of rows, without that of the tokens which ``cat_rows`` has put behind them."""
    return gradient[:, : rows.shape[1]] if rows.dim() == 3 else gradient


def _backward(outputs: list[Tensor], gradients: list[Tensor], scale: Tensor) -> None:
    torch.autograd.backward(outputs, [gradient * scale.to(gradient.device) for gradient in gradients])


def _with_hook(result: Tensor | Components, hook: Any) -> Tensor | Components:
    """The result cut off from its graph; its backward calls ``hook`` with the gradient of the sum."""
    if isinstance(result, Tensor):
        handle = result.detach().requires_grad_()
        handle.register_hook(hook)  # type: ignore[no-untyped-call]
        return handle
    # the parts are added up, so each has the gradient of the sum: one of them is enough
    first, *others = result
    handle = result[first].detach().requires_grad_()
    handle.register_hook(hook)  # type: ignore[no-untyped-call]
    return {first: handle, **{name: result[name].detach() for name in others}}


def _leaves_below(result: Tensor, besides: list[Tensor]) -> list[Tensor]:
    """The leaves that a result was computed from, in a fixed order."""
    known = {id(leaf) for leaf in besides}
    seen, waiting, found = set(), [result.grad_fn], []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)  # only the nodes that add up gradients have one
        if isinstance(leaf, Tensor) and id(leaf) not in known:
            found.append(leaf)
        waiting.extend(below for below, _ in node.next_functions)
    return found


def _rows(features: Features) -> int:
    return max(len(value) for value in features.values() if isinstance(value, Tensor) and value.dim())


def _widths(features: Features) -> list[int] | None:
    """How many tokens each row needs, without the padding on its right; None where there is no mask."""
    mask = features.get("attention_mask")
    if mask is None:
        return None
    if (
        "input_ids" not in features or "query_expansion_positions" in features
    ):  # what is masked may be used all the same
        return [mask.shape[1]] * len(mask)
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    needed: list[int] = ((mask != 0) * places).amax(1).clamp(min=1).tolist()
    return needed


def _part(features: Features, rows: slice, count: int, width: int | None) -> Features:
    """What has a row for each input is cut; the rest is for all of them. Of tokens, the first ``width`` are kept."""
    of_tokens = features["attention_mask"].shape if width is not None else None
    part = {}
    for name, value in features.items():
        if isinstance(value, Tensor) and value.dim() and len(value) == count:
            value = value[rows, :width] if value.shape[:2] == of_tokens else value[rows]
        part[name] = value
    return part


def _by_tokens(widths: list[int], budget: int) -> Iterator[slice]:
    """Neighbouring rows that have at most ``budget`` tokens when they are padded to the longest of them."""
    start, longest = 0, 0
    for place, width in enumerate(widths):
        if place > start and max(longest, width) * (place + 1 - start) > budget:
            yield slice(start, place)
            start, longest = place, 0
        longest = max(longest, width)
    yield slice(start, len(widths))


def _autocast_now(kind: str) -> torch.autocast:
    """A context with the automatic casts that are now in force on a kind of device."""
    return torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind))


def _random_states(features: Features) -> list[tuple[torch.device, Tensor]]:
    """Of every device that a part uses, so that dropout drops the same numbers again."""
    devices = {value.device for value in features.values() if isinstance(value, Tensor)} | {torch.device("cpu")}
    return _states(devices)


class _replayed:
    """Inside, random numbers are those of before; afterwards the stream goes on as if nothing was drawn."""

    def __init__(self, states: list[tuple[torch.device, Tensor]]) -> None:
        self.states = states

    def __enter__(self) -> None:
        self.before = _states(device for device, _ in self.states)
        _set(self.states)

    def __exit__(self, *error: object) -> None:
        _set(self.before)


def _states(devices: Iterable[torch.device]) -> list[tuple[torch.device, Tensor]]:
    return [(device, _generator(device).get_rng_state(*_index(device))) for device in devices]  # type: ignore[attr-defined]


def _set(states: list[tuple[torch.device, Tensor]]) -> None:
    for device, state in states:
        _generator(device).set_rng_state(state, *_index(device))  # type: ignore[attr-defined]


def _generator(device: torch.device) -> object:
    """The module of torch that keeps the random numbers of a device."""
    return torch if device.type == "cpu" else torch.get_device_module(device)


def _index(device: torch.device) -> tuple[torch.device, ...]:
    """The device as an argument, for those modules that serve several; otherwise theirs is the current one."""
    return () if device.type in ("cpu", "mps") else (device,)
