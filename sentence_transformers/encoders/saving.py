"""From an encoder to a model folder, and to the Hub."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from sentence_transformers._version import __version__
from sentence_transformers.encoders.loading import CONFIG_FILE, MODULES_FILE
from sentence_transformers.hub import trust
from sentence_transformers.hub.folder import staged
from sentence_transformers.hub.push import push_folder
from sentence_transformers.hub.source import load_file_path
from sentence_transformers.modules.folders import save_part
from sentence_transformers.ops.gather import get_rank

CARD_FILE = "README.md"


class Saving(nn.Module):
    """How an encoder is saved: ``save`` to a folder, ``push_to_hub``."""

    model_type: ClassVar[str]
    prompts: dict[str, str]
    default_prompt_name: str | None
    module_kwargs: dict[str, list[str]]
    model_card_data: Any

    def _config_to_save(self) -> dict[str, Any]:
        """What ``config_sentence_transformers.json`` holds beside the versions."""
        return {
            "model_type": self.model_type,
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
        }

    def save(
        self,
        path: str | Path | None,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write the model to a folder, whole or not at all: a killed save leaves what was there before.

        Of processes that compute together (``torch.distributed``) only the first one writes; so does transformers.

        Args:
            path: the folder; None does nothing. Other files in it are left alone.
            model_name: the name that the model card uses.
            create_model_card: write ``README.md``.
            safe_serialization: False writes the weights of modules after the first as pickles.
        """
        if path is None or get_rank():
            return
        card = self._card(model_name, train_datasets) if create_model_card else None
        write(
            dict(self.named_children()),
            self.module_kwargs,
            Path(path),
            self._config_to_save(),
            card,
            safe_serialization,
            self.model_card_data.write_assets,
        )

    def save_pretrained(
        self,
        path: str | Path | None,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Another name of ``save``."""
        self.save(path, model_name, create_model_card, train_datasets, safe_serialization)

    def write_model_card(self, path: str | Path) -> None:
        """Write the model card alone into a folder, which is made."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CARD_FILE).write_text(self._card(None, None), encoding="utf-8")
        self.model_card_data.write_assets(folder)

    def _card(self, model_name: str | None, train_datasets: list[str] | None) -> str:
        if model_name:
            self.model_card_data.model_id = model_name
        if train_datasets:
            self.model_card_data.add_train_datasets(train_datasets)
        return str(self.model_card_data.render(self))

    def push_to_hub(
        self,
        repo_id: str,
        token: str | None = None,
        private: bool | None = None,
        safe_serialization: bool = True,
        commit_message: str | None = None,
        local_model_path: str | None = None,
        exist_ok: bool = False,
        replace_model_card: bool = False,
        train_datasets: list[str] | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload the model to the Hub.

        Args:
            repo_id: "user/name". private: of a repository that is made now. exist_ok: the repository may exist.
            local_model_path: upload this folder instead of the model in memory.
            replace_model_card: write a new card even where the repository has one.
            revision: the branch; made if need be. create_pr: open a pull request instead.

        Returns: the address of the commit, or of the pull request.
        """
        message = commit_message or f"Add new {type(self).__name__} model"
        options: dict[str, Any] = {"private": private, "exist_ok": exist_ok, "revision": revision}
        options.update(token=token, commit_message=message, create_pr=create_pr)
        if local_model_path is not None:
            return push_folder(local_model_path, repo_id, **options)
        with tempfile.TemporaryDirectory() as folder:
            new_card = replace_model_card or load_file_path(repo_id, CARD_FILE, token=token) is None
            self.save(folder, repo_id, new_card, train_datasets, safe_serialization)
            return push_folder(folder, repo_id, **options)

    def save_to_hub(self, repo_id: str, organization: str | None = None, **kwargs: Any) -> str:
        """The old form of ``push_to_hub``."""
        warnings.warn("save_to_hub is now push_to_hub.", FutureWarning, stacklevel=2)
        if organization and "/" not in repo_id:
            repo_id = f"{organization}/{repo_id}"
        return self.push_to_hub(repo_id, **kwargs)


def write(
    modules: Mapping[str, nn.Module],
    module_kwargs: Mapping[str, list[str]],
    path: Path,
    config: dict[str, Any],
    card: str | None,
    safe_serialization: bool,
    write_assets: Callable[[Path], None],
) -> None:
    """Write all modules, ``modules.json``, the config, the card and its pictures; the folder changes all at once."""
    with staged(path) as folder:
        entries = [
            _save_module(folder, i, name, module, module_kwargs.get(name), safe_serialization)
            for i, (name, module) in enumerate(modules.items())
        ]
        _write_json(folder / MODULES_FILE, entries)
        _write_json(folder / CONFIG_FILE, {"__version__": _versions(), **config})
        if card is not None:
            (folder / CARD_FILE).write_text(card, encoding="utf-8")
            write_assets(folder)


def _save_module(
    folder: Path, i: int, name: str, module: nn.Module, kwargs: list[str] | None, safe_serialization: bool
) -> dict[str, Any]:
    """Write one module; its entry for ``modules.json``."""
    in_root = i == 0 and bool(getattr(module, "save_in_root", False))
    path = "" if in_root else f"{i}_{type(module).__name__}"
    save_part(module, folder / path, safe_serialization)
    trust.copy_code(type(module), folder)
    entry = {"idx": i, "name": name, "path": path, "type": trust.type_string(type(module))}
    return {**entry, "kwargs": list(kwargs)} if kwargs else entry


def _versions() -> dict[str, str]:
    versions = {"sentence_transformers": __version__}
    for key, distribution in (("transformers", "transformers"), ("pytorch", "torch")):
        try:
            versions[key] = version(distribution)
        except PackageNotFoundError:
            versions[key] = "unknown"
    return versions


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, sort_keys=isinstance(value, dict), ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
