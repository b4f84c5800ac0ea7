"""What an encoder hands on to its transformers models: adapters to the first one, gradient checkpointing to all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from torch import nn

from sentence_transformers.backend import adapters
from sentence_transformers.errors import need

logger = logging.getLogger(__name__)


class PeftAdapterMixin(nn.Module):
    """Adapters, as ``peft`` and transformers have them: a few weights beside frozen ones.

    All methods but ``has_peft_compatible_model`` raise ``ValueError`` where there is no transformers model that can
    have adapters or none of that name, and ``ImportError`` where ``peft`` is not installed.

    While there are adapters, even disabled ones, transformers' own model computes. When the last one is deleted the
    model is as before, except that weights stay frozen: ``model.requires_grad_(True)`` trains them again.
    """

    @property
    def transformers_model(self) -> Any:
        """The model that has the adapters, or None."""
        raise NotImplementedError

    def has_peft_compatible_model(self) -> bool:
        """Whether there is a transformers model that can have adapters."""
        model = self.transformers_model
        if model is None:
            return False
        from transformers.integrations.peft import PeftAdapterMixin as Adaptable

        return isinstance(model, Adaptable)

    def check_peft_compatible_model(self) -> None:
        """Raise ``ValueError`` unless there is a transformers model that can have adapters."""
        if not self.has_peft_compatible_model():
            raise ValueError(
                "PEFT methods are only supported for Sentence Transformer models that use the Transformer module."
            )

    def _adaptable(self) -> Any:
        self.check_peft_compatible_model()
        need("peft", extra=adapters.EXTRA, what="A model with adapters")
        return self.transformers_model

    def load_adapter(self, *args: Any, **kwargs: Any) -> Any:
        """Put on a saved adapter, which becomes the active one.

        Args:
            args, kwargs: of ``PreTrainedModel.load_adapter``: a folder or a name on the Hub, ``adapter_name``
                (default "default"), ``is_trainable`` (default False), ...

        Returns: which weights were found.
        """
        return self._adaptable().load_adapter(*args, **kwargs)

    def add_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Put on a new adapter to be trained, which becomes the active one; all other weights are frozen.

        Args:
            args, kwargs: of ``PreTrainedModel.add_adapter``: its settings, such as a ``peft.LoraConfig``, and a name.
        """
        self._adaptable().add_adapter(*args, **kwargs)

    def set_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Use the adapter of this name, or those of a list of names, and no other; they can be trained from now on."""
        self._adaptable().set_adapter(*args, **kwargs)

    def disable_adapters(self) -> None:
        """Compute without adapters, which stay."""
        self._adaptable().disable_adapters()

    def enable_adapters(self) -> None:
        """Compute with the active adapters again."""
        model = self._adaptable()
        model.enable_adapters()
        adapters.enable_trained_in_full(model)

    def active_adapters(self) -> list[str]:
        """The names of the adapters that are used; those that were when they are disabled."""
        return list(self._adaptable().active_adapters())

    def active_adapter(self) -> str:
        """The name of the first adapter that is used."""
        return self.active_adapters()[0]

    def get_adapter_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The weights of the adapter of this name, or of the active one."""
        return dict(self._adaptable().get_adapter_state_dict(*args, **kwargs))

    def delete_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Remove the adapter of this name, or those of a list of names."""
        model = self._adaptable()
        model.delete_adapter(*args, **kwargs)
        if not adapters.configs(model):
            adapters.unload(model)

    # --- gradient checkpointing --------------------------------------------------------------------------------------

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Train with less memory: forget what layers computed, and compute it again for the gradients.

        Args:
            activation_checkpointing_kwargs: of ``torch.utils.checkpoint.checkpoint``; ``use_reentrant`` is False if it
                is not among them.
            every_n_layers: of so many layers one forgets.
            offload: keep the inputs of layers in the memory of the host.

        A model without the means for this is left as it is, with a warning.
        """
        settings = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        further = {"every_n_layers": every_n_layers, "offload": offload}
        for model in self._checkpointed():
            enable = getattr(model, "activation_checkpointing_enable", None)
            if enable is not None:
                enable(settings, **further)
            else:
                changed = {} if (every_n_layers, offload) == (1, False) else further
                model.gradient_checkpointing_enable(settings, **changed)
            release = getattr(model, "disable_input_require_grads", None)
            if release is not None and not settings["use_reentrant"]:
                release()  # only the other kind needs inputs with gradients; the hooks for them cannot be pickled

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Another name of ``activation_checkpointing_enable``."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **kwargs)

    def activation_checkpointing_disable(self) -> None:
        """Keep what layers compute, as usual."""
        for model in self._checkpointed():
            disable = getattr(model, "activation_checkpointing_disable", None)
            (model.gradient_checkpointing_disable if disable is None else disable)()

    def gradient_checkpointing_disable(self) -> None:
        """Another name of ``activation_checkpointing_disable``."""
        self.activation_checkpointing_disable()

    def _checkpointed(self) -> Iterator[Any]:
        """The outermost modules that have gradient checkpointing."""
        inside: list[str] = []
        for name, module in self.named_modules():
            known = (getattr(module, f"{kind}_checkpointing_enable", None) for kind in ("activation", "gradient"))
            if module is self or name.startswith(tuple(inside)) or not any(known):
                continue
            inside.append(f"{name}.")
            if getattr(module, "supports_gradient_checkpointing", True):
                yield module
            else:
                logger.warning("%s has no gradient checkpointing: it is trained as usual.", type(module).__name__)


def peft_wrapper(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an encoder, that is run by the transformers model instead, where that can have adapters.

    Args:
        method: its name counts, and what it says of itself.
    """

    @wraps(method)
    def forwarded(self: PeftAdapterMixin, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._adaptable(), method.__name__)(*args, **kwargs)

    return forwarded
