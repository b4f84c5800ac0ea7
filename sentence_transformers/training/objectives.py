"""The losses of a training: made for a model, pointed at what wraps it, and what they have of their own.

A loss is a module around the model; dicts of them go by the names of datasets. What a loss trains besides the model (a
classifier, a temperature) is saved with checkpoints and kept equal among processes: torch does that for the model only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import TrainerCallback

Objective: TypeAlias = nn.Module | Mapping[str, nn.Module]


def made(loss: Any, model: Any) -> Any:
    """A loss, or losses by name, for a model and on its device.

    Args:
        loss: modules, or functions that make one of the model.
    """
    if isinstance(loss, Mapping):
        return {name: made(one, model) for name, one in loss.items()}
    return (loss if isinstance(loss, nn.Module) else loss(model)).to(model.device)


def each(loss: Objective) -> list[nn.Module]:
    """All losses."""
    return list(loss.values()) if isinstance(loss, Mapping) else [loss]


def whole(loss: Objective) -> nn.Module:
    """All losses as one module, for those who walk over parameters."""
    if isinstance(loss, nn.Module):
        return loss
    return nn.ModuleDict({name.replace(".", "_"): one for name, one in loss.items()})


def point(loss: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever a loss, or a loss inside of it, holds ``old``; other copies of the model stay."""
    for name, child in list(loss.named_children()):
        if child is old:
            setattr(loss, name, new)
        elif child is not new:
            point(child, old, new)


# --- what losses have of their own ------------------------------------------------------------------------------------


def judged(loss: Objective) -> set[int]:
    """Identities of the parameters of models that losses only ask, such as a guide: they are not trained."""
    found: set[int] = set()
    for module in (part for one in each(loss) for part in one.modules()):
        for name in getattr(module, "judges", ()):
            found.update(id(parameter) for parameter in getattr(module, name).parameters())
    return found


def own_parameters(loss: Objective, model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter that is trained and not the model's."""
    others = judged(loss) | {id(parameter) for parameter in model.parameters()}
    return {
        name: parameter
        for name, parameter in whole(loss).named_parameters()
        if parameter.requires_grad and id(parameter) not in others
    }


def own_state(loss: Objective, model: nn.Module) -> dict[str, Tensor]:
    """What has to be kept of the losses so that training can go on: their own parameters, and their buffers."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in _own(loss, model)}


def restore(loss: Objective, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put back what ``own_state`` gave. Raises: ValueError where it is of other losses."""
    found = dict(_own(loss, model))
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    saved = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if shapes != saved:
        raise ValueError(
            f"The checkpoint was written with other losses: expected tensors {shapes}, found {saved}. Resume with the "
            "losses that it was written with, or begin anew from the model in it."
        )
    with torch.no_grad():
        for name, tensor in found.items():
            tensor.copy_(state[name])


def _own(loss: Objective, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from own_parameters(loss, model).items()
    others = {id(buffer) for buffer in model.buffers()}
    trained = judged(loss)
    for prefix, module in whole(loss).named_modules():
        parameters = [id(parameter) for parameter in module.parameters()]
        if parameters and all(one in trained for one in parameters):
            continue
        for name, buffer in module.named_buffers(prefix, recurse=False):
            if id(buffer) not in others:
                yield name, buffer


class OwnParameters(TrainerCallback):
    """Does for the own parameters of losses what trainer and torch do for those of the model.

    Args:
        parameters: asked for whenever it is needed, for losses may be made anew.
    """

    def __init__(self, parameters: Callable[[], dict[str, nn.Parameter]]) -> None:
        self.parameters = parameters

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """All processes begin with the same."""
        for parameter in self._shared():
            dist.broadcast(parameter.data, 0)

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """All processes take the same step: that of the mean gradient; none where no process has one."""
        shared = self._shared()
        if not shared:
            return
        counts = torch.tensor([parameter.grad is not None for parameter in shared], device=shared[0].device).int()
        dist.all_reduce(counts)  # some losses have no turn at this step
        for parameter, count in zip(shared, counts.tolist(), strict=True):
            if not count:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """No step goes by old gradients."""
        for parameter in self.parameters().values():
            parameter.grad = None

    def _shared(self) -> list[nn.Parameter]:
        several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        return list(self.parameters().values()) if several else []
