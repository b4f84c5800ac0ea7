"""A model that is one graph, without torch: numpy, tokenizers and the runtime of the graph are all it imports.

For programs that only encode: they start in a tenth of the time. What ``SentenceTransformer(..., backend="onnx")``
saves, or one of the export functions writes, is what this opens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentence_transformers.backend.graphs import files
from sentence_transformers.backend.graphs.facts import EMBEDDING, LOGITS, STATES, TYPES
from sentence_transformers.backend.graphs.feeds import padded
from sentence_transformers.backend.graphs.files import FORMATS
from sentence_transformers.backend.graphs.session import SETTINGS, open_session
from sentence_transformers.backend.native.heads import CLASSIFY, FEATURES
from sentence_transformers.encoders.prompts import document_prompt, resolve_prompt
from sentence_transformers.errors import ModelFileError, one_of, positive
from sentence_transformers.hub import source
from sentence_transformers.hub.json_files import read_json, read_json_list
from sentence_transformers.hub.source import Source
from sentence_transformers.inference.plan import BUDGET, Plan
from sentence_transformers.modules.processing import Ints, Text, TokenTable, spans
from sentence_transformers.modules.text_tokenizer import TextTokenizer
from sentence_transformers.modules.transformer_config import read_saved

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

MODULES_FILE, CONFIG_FILE = "modules.json", "config_sentence_transformers.json"
POOLED = ("mean", "cls")  # what is computed here, behind a graph that ends with its token embeddings
ACTIVATIONS = {"Identity", "Sigmoid"}


class GraphEncoder:
    """A dense encoder, a sparse encoder or a reranker whose folder has its graph. Imports no torch, no transformers.

    Safe to use from many threads at once.

    Args:
        model_name_or_path: a folder, or the name of a model.
        backend: "onnx" or "openvino".
        prompts, default_prompt_name: as of ``SentenceTransformer``; None takes the saved ones.
        max_seq_length: the most tokens of one input; None takes the saved limit.
        truncate_dim: keep the first so many dimensions of every vector.
        cache_folder, revision, local_files_only, token: where and how the model is fetched.
        settings: which file (``file_name``, ``subfolder``), and how it is run (``provider``, ``ov_config``, ...): what
            ``model_kwargs`` of the other encoders take.

    Raises:
        FileNotFoundError: there is no such model, or it has no graph.
        ModelFileError: a file of the model is missing or damaged.
        ImportError: the runtime is not installed.
        ValueError: the graph does not hold the whole model; use ``SentenceTransformer(..., backend=...)``.

    Example:
        >>> SentenceTransformer("all-MiniLM-L6-v2", backend="onnx").save_pretrained("minilm-onnx")  # once
        >>> model = GraphEncoder("minilm-onnx")
        >>> embeddings = model.encode(["The weather is lovely today.", "It's so sunny outside!"])
    """

    def __init__(
        self,
        model_name_or_path: str,
        *,
        backend: str = "onnx",
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        max_seq_length: int | None = None,
        truncate_dim: int | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        **settings: Any,
    ) -> None:
        form = FORMATS[one_of("backend", backend, tuple(FORMATS))]
        where = {"token": token, "cache_folder": cache_folder, "revision": revision}
        hub: dict[str, Any] = {**where, "local_files_only": local_files_only}
        found = source.find(model_name_or_path, organization="sentence-transformers", **hub)
        files.fetch(found, backend, settings, hub)
        entries = read_json_list(found.path(MODULES_FILE)) if found.file(MODULES_FILE) else [{"path": ""}]
        subfolder = str(entries[0].get("path", ""))
        folder = found.path(subfolder) if subfolder else found.folder
        asked = files.Asked.of(form, {**settings, "export": False})
        name = files.choose(files.files_of(folder, form), form, asked, str(found.name))
        assert name is not None  # export=False: else there was an error
        how = {key: value for key, value in settings.items() if key in SETTINGS[backend]}
        self._session = open_session(folder / name, backend, how)
        self._config = read_json(folder / "config.json")
        saved = read_saved(found, subfolder)
        self.task: str = saved.get("transformer_task") or self._task()
        self._steps = self._behind(found, entries[1:])
        self._text = TextTokenizer(
            folder,
            {},
            with_types=TYPES in self._session.inputs,
            limit=max_seq_length or saved.get("max_seq_length"),
            positions=self._config.get("max_position_embeddings"),
            lower=bool(saved.get("do_lower_case")),
            trust_remote_code=False,
        )
        config_file = found.file(CONFIG_FILE)
        whole = read_json(config_file) if config_file else {}
        known = {**(whole.get("prompts") or {}), **(prompts or {})}
        self.prompts: dict[str, str] = {name: text or "" for name, text in known.items()}
        self.default_prompt_name = default_prompt_name or whole.get("default_prompt_name")
        self.truncate_dim = truncate_dim or whole.get("truncate_dim")
        self.similarity_fn_name: str = whole.get("similarity_fn_name") or "cosine"
        self.activation = self._activation(whole)

    # --- what the folder says ----------------------------------------------------------------------------------------

    def _task(self) -> str:
        names = self._config.get("architectures") or [""]
        return CLASSIFY if str(names[0]).endswith("ForSequenceClassification") else FEATURES

    def _behind(self, found: Source, entries: Sequence[dict[str, Any]]) -> tuple[str, ...]:
        """What is left to do behind the graph: nothing, or a pooling and perhaps a normalisation."""
        facts = self._session.facts
        held = () if facts is None else facts.modules
        names = [str(entry.get("type", "")).rpartition(".")[2] for entry in entries]
        if [module.type.rpartition(".")[2] for module in held] == names:
            return ()
        steps: list[str] = []
        for entry, name in zip(entries, names, strict=True):
            config_file = found.file("config.json", str(entry.get("path", "")))
            config = read_json(config_file) if config_file else {}
            mode = config.get("pooling_mode") or next((m for m in POOLED if config.get(_FLAGS[m])), None)
            if name == "Pooling" and mode in POOLED and not steps and config.get("include_prompt", True):
                steps.append(str(mode))
            elif name == "Normalize" and steps:
                steps.append("normalize")
            else:
                raise ValueError(
                    f"The graph of {found.name!r} ends before the module {name}, which needs torch here. Use "
                    "SentenceTransformer(..., backend=...), and its save_pretrained to get a graph of the whole model."
                )
        return tuple(steps)

    def _activation(self, whole: dict[str, Any]) -> str:
        """The name of the activation of a reranker."""
        saved = whole.get("activation_fn") or (self._config.get("sentence_transformers") or {}).get("activation_fn")
        if saved is None:
            labels = self._config.get("id2label")
            one = self._config.get("num_labels", len(labels) if labels is not None else 2) == 1
            return "Sigmoid" if one else "Identity"
        name = str(saved).rpartition(".")[2]
        if self.task == CLASSIFY and name not in ACTIVATIONS:
            raise ValueError(f"The activation {saved!r} of this model needs torch: use CrossEncoder(..., backend=...).")
        return name

    @property
    def max_seq_length(self) -> int | None:
        """The most tokens of one input; None where nothing limits it."""
        return self._text.limit

    # --- running -----------------------------------------------------------------------------------------------------

    def encode(
        self,
        inputs: str | Sequence[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        *,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        on_truncate: str = "warn",
    ) -> Array:
        """Encode texts to vectors of width D; of a sparse encoder, D is its vocabulary and most values are 0.

        Args:
            inputs: a text, or a list of n texts.
            prompt_name: name of a prompt in ``prompts`` to put before every input. prompt: the prompt itself; wins.
            batch_size: the most inputs that are computed together.
            normalize_embeddings: scale every vector to length 1.
            truncate_dim: keep the first so many dimensions; default ``self.truncate_dim``.
            on_truncate: "warn" once per call if inputs are longer than ``max_seq_length``, "error", or "ignore".

        Returns: (n, D) float32; for a single text (D,).
        Raises: ValueError for an unknown prompt; TypeError for what is no text.
        """
        if self.task == CLASSIFY:
            raise ValueError("This model scores pairs of texts: use predict or rank.")
        single = isinstance(inputs, str)
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        strange = next((text for text in texts if not isinstance(text, str)), None)
        if strange is not None:
            raise TypeError(f"encode takes a text or a list of texts; one of them is {type(strange).__name__}.")
        before = resolve_prompt(self.prompts, self.default_prompt_name, prompt_name, prompt) or ""
        found = self._run([before + text for text in texts], batch_size, on_truncate)
        width = self.truncate_dim if truncate_dim is None else truncate_dim
        vectors = found[:, :width]
        if normalize_embeddings:
            vectors = _normalised(vectors)
        return vectors[0] if single else vectors

    def encode_query(self, inputs: str | Sequence[str], prompt_name: str | None = None, **options: Any) -> Array:
        """``encode`` for the short side of a search: with the prompt "query", if there is one."""
        if prompt_name is None and options.get("prompt") is None and "query" in self.prompts:
            prompt_name = "query"
        return self.encode(inputs, prompt_name, **options)

    def encode_document(self, inputs: str | Sequence[str], prompt_name: str | None = None, **options: Any) -> Array:
        """``encode`` for what is searched: with the prompt "document", "passage" or "corpus", if there is one."""
        if prompt_name is None and options.get("prompt") is None:
            prompt_name = document_prompt(self.prompts)
        return self.encode(inputs, prompt_name, **options)

    def predict(self, pairs: Sequence[Sequence[str]], batch_size: int = 32, *, on_truncate: str = "warn") -> Array:
        """Score pairs of texts.

        Args:
            pairs: n pairs.
            batch_size, on_truncate: as of ``encode``.

        Returns: (n,) float32 for one label, else (n, labels), behind the activation of the model.
        """
        if self.task != CLASSIFY:
            raise ValueError("This model encodes texts: use encode.")
        found = self._run([(first, second) for first, second in pairs], batch_size, on_truncate)
        scores = 1 / (1 + np.exp(-found)) if self.activation == "Sigmoid" else found
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def rank(
        self, query: str, documents: Sequence[str], top_k: int | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """Documents in the order of their scores: ``{"corpus_id": place in documents, "score": float}``, best first."""
        scores = self.predict([(query, document) for document in documents], **options)
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [{"corpus_id": int(place), "score": float(scores[place])} for place in order]

    def similarity(self, embeddings1: Array, embeddings2: Array) -> Array:
        """(n, D), (m, D) -> (n, m), by the function of the model: "cosine" or "dot"."""
        one_of("similarity_fn_name", self.similarity_fn_name, ("cosine", "dot"))
        if self.similarity_fn_name == "cosine":
            embeddings1, embeddings2 = _normalised(embeddings1), _normalised(embeddings2)
        return np.asarray(embeddings1 @ embeddings2.T)

    def _run(self, texts: Sequence[Text], batch_size: int, on_truncate: str) -> Array:
        """(n, D) of what comes out of the graph and the steps behind it."""
        positive("batch_size", batch_size)
        one_of("on_truncate", on_truncate, ("warn", "error", "ignore"))
        processor = self._text.processor
        if processor is None:
            raise ModelFileError("The tokenizer of this model is written in Python: use SentenceTransformer(...).")
        table = processor(texts)
        if table.cut and on_truncate != "ignore":
            message = f"{len(table.cut)} of {len(texts)} inputs are longer than max_seq_length = {table.limit} tokens."
            if on_truncate == "error":
                raise ValueError(message)
            logger.warning(message)
        out: Array | None = None
        for rows in Plan.build(table.sizes, batch_size, 2 * BUDGET):
            found = self._batch(table, rows, processor.padding_id)
            if out is None:
                out = np.empty((len(texts), found.shape[1]), dtype=np.float32)
            out[rows] = found
        return np.empty((0, 0), dtype=np.float32) if out is None else out

    def _batch(self, table: TokenTable, rows: Ints, padding_id: int) -> Array:
        lengths = table.sizes[rows]
        index = spans(table.starts[rows], lengths)
        types = None if table.types is None else table.types[index]
        feeds, real = padded(
            table.ids[index], lengths.tolist(), self._session.inputs, types=types, padding_id=padding_id
        )
        if self.task == CLASSIFY:
            return self._session.run(feeds, LOGITS)
        if not self._steps:
            return self._session.run(feeds, EMBEDDING)
        states = self._session.run(feeds, STATES)
        pooled = states[:, 0] if self._steps[0] == "cls" else _mean(states, real)
        return _normalised(pooled) if "normalize" in self._steps else pooled


_FLAGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}


def _mean(states: Array, real: Array) -> Array:
    weights = real.astype(np.float32)[:, :, None]
    return np.asarray((states * weights).sum(1) / np.maximum(weights.sum(1), 1e-9))


def _normalised(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))
