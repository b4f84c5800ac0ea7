"""Chat messages: inputs of a model whose tokenizer has a chat template become conversations, and those become tokens.

A text is what a user says; a pair is what the roles "query" and "document" say; a prompt is what the system says first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sentence_transformers.modules.modality import is_message, is_pair, problem_of
from sentence_transformers.modules.processing import Ints, TokenTable, starts_of
from sentence_transformers.modules.text_tokenizer import TextTokenizer

MESSAGE = "message"
PAIR = ("query", "document")
Format = Literal["flat", "structured"]
Conversation = list[dict[str, Any]]


def form_of_template(text: TextTokenizer) -> Format | None:
    """How the chat template of a tokenizer reads contents, by its source; None without a template.

    Looks at settings and files, as making the tokenizer takes a second.
    """
    file = text.folder / "chat_template.jinja"
    source = text.settings.get("chat_template")
    if source is None and file.is_file():
        source = file.read_text(encoding="utf-8")
    source = source or text.config.get("chat_template")
    if not source:
        return None
    return "structured" if any(word in str(source) for word in ("'type'", '"type"', ".type")) else "flat"


class ChatTemplate:
    """Turns inputs into conversations, and these into token ids.

    Args:
        text: the tokenizer, which must have a processor.
        form: how the template reads the content of a message: "flat", a string; "structured", a list of parts
            ``{"type": "text", "text": ...}``.
    """

    def __init__(self, text: TextTokenizer, form: Format) -> None:
        self.text, self.form = text, form
        self._suffixes: dict[Any, Ints] = {}
        self._carry_pairs: set[Any] = set()

    def table(
        self,
        inputs: Sequence[Any],
        prompt: str | None,
        limit: int | None,
        task: str | None,
        settings: Mapping[str, Any],
    ) -> TokenTable:
        """Tokenise inputs.

        A conversation that is too long is cut at its end, and there the template's own last tokens, which follow
        every content, take the place of others: a model answers only where they stand.

        Args:
            limit: the most tokens of one input; None for the tokenizer's own.
            task: handed to the template where there is one.
            settings: further arguments of the template; ``restore_suffix``: False cuts the last tokens as well.

        Raises: ValueError for an input that is neither text nor messages, or a template that drops part of a pair.
        """
        processor = self.text.processor
        assert processor is not None
        given = {**settings, **({} if task is None else {"task": task})}
        restore = given.pop("restore_suffix", True)
        conversations = [self.conversation(item, prompt) for item in inputs]
        if any(_roles(conversation)[-2:] == PAIR for conversation in conversations):
            self._check_pairs(given)
        rows = processor.encode_bare(self._rendered(conversations, given))
        limit = processor.limit if limit is None else limit
        cut = [] if limit is None else [i for i, row in enumerate(rows) if len(row) > limit]
        for i in cut:
            suffix = self._suffix(_roles(conversations[i]), given)[-(limit or 0) :] if restore else rows[i][:0]
            rows[i] = np.concatenate((rows[i][: (limit or 0) - len(suffix)], suffix))
        starts = starts_of(np.array([len(row) for row in rows], dtype=np.int64))
        return TokenTable(np.concatenate([*rows, np.empty(0, np.int64)]), starts, None, cut, limit)

    def conversation(self, item: Any, prompt: str | None) -> Conversation:
        """The messages that an input stands for, the prompt first."""
        if isinstance(item, dict) and set(item) == {"text"}:
            item = item["text"]
        if isinstance(item, str):
            messages: list[Any] = [{"role": "user", "content": item}]
        elif is_pair(item):
            messages = [{"role": role, "content": part} for role, part in zip(PAIR, item, strict=True)]
        elif is_message(item):
            messages = [item]
        elif isinstance(item, (list, tuple)) and item and all(map(is_message, item)):
            messages = list(item)
        else:
            raise ValueError(problem_of(item))
        first = [{"role": "system", "content": prompt}] if prompt else []
        return [{**message, "content": self._content(message["content"])} for message in first + messages]

    def _content(self, content: Any) -> Any:
        """A message's content in the form of the template."""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        wrong = [part for part in parts if not _is_text(part)] if isinstance(parts, (list, tuple)) else [content]
        if wrong:
            raise ValueError(
                "This model reads text alone: the content of a message must be a string or a list of "
                f"{{'type': 'text', 'text': ...}}; got {wrong[0]!r:.80}."
            )
        return list(parts) if self.form == "structured" else "".join(part["text"] for part in parts)

    def _rendered(self, conversations: list[Conversation], settings: Mapping[str, Any]) -> list[str]:
        if not conversations:
            return []
        options = {"add_generation_prompt": False, **settings, "tokenize": False}
        return list(self.text.transformers.apply_chat_template(conversations, **options))

    def _suffix(self, roles: tuple[str, ...], settings: Mapping[str, Any]) -> Ints:
        """The tokens that follow the last content of every conversation of these roles."""
        key = (roles, *self._rendering(settings))
        if key not in self._suffixes:
            probes = [[{"role": role, "content": self._content(word)} for role in roles] for word in ("x", "7", "?")]
            assert self.text.processor is not None
            rows = self.text.processor.encode_bare(self._rendered(probes, settings))
            shared = 0
            while shared < min(map(len, rows)) and len({int(row[-1 - shared]) for row in rows}) == 1:
                shared += 1
            self._suffixes[key] = rows[0][len(rows[0]) - shared :]
        return self._suffixes[key]

    def _rendering(self, settings: Mapping[str, Any]) -> tuple[str, str]:
        """What the text of a conversation depends on besides the conversation, as a key."""
        return str(self.text.transformers.chat_template), repr(sorted(settings.items()))

    def _check_pairs(self, settings: Mapping[str, Any]) -> None:
        """Raises: ValueError if a query or a document does not reach the text that the template makes of a pair."""
        key = self._rendering(settings)
        if key in self._carry_pairs:
            return
        words = {role: f"<<{role}>>" for role in PAIR}
        probe = [{"role": role, "content": self._content(word)} for role, word in words.items()]
        from jinja2 import TemplateError  # comes with every tokenizer that can render

        try:
            text = self._rendered([probe], settings)[0]
            lost = [role for role, word in words.items() if word not in text]
            why = f"the {' and '.join(map(repr, lost))} content does not reach the rendered prompt" if lost else ""
        except TemplateError as error:
            why = f"it raised {type(error).__name__}: {error}"
        if why:
            raise ValueError(
                f"The chat template of {Path(self.text.folder)} cannot carry a 'query'/'document' pair ({why}). A pair "
                "becomes two messages with these roles: pass processor_kwargs={'chat_template': ...} with a template "
                "that renders both, or put chat_template.jinja beside the model."
            )
        self._carry_pairs.add(key)


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _roles(conversation: Conversation) -> tuple[str, ...]:
    return tuple(str(message["role"]) for message in conversation)
