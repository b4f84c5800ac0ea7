"""Chat templates: which form of content one reads, inputs as conversations, and how long ones are cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_heads as heads
import torch

from sentence_transformers.modules.chat import ChatTemplate, form_of_template
from sentence_transformers.modules.text_tokenizer import TextTokenizer
from sentence_transformers.modules.transformer import Transformer

FLAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }};{% endfor %}"
PARTS = (
    "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}"
    "{% endfor %};{% endfor %}"
)
ENDING = "{% for m in messages %}{{ m.content }} {% endfor %}| end"
"""A template whose last tokens, " | end", follow every content."""


@pytest.fixture(scope="module")
def bare_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose tokenizer has no chat template; don't write."""
    return heads.build_answering(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def made(bare_folder: Path) -> Callable[..., ChatTemplate]:
    """``made(template)``: the chat template of a tokenizer of the test's own, in the form that it is found to have."""

    def make(template: str, form: Any = None) -> ChatTemplate:
        text = tokenizer(bare_folder, chat_template=template)
        return ChatTemplate(text, form or form_of_template(text))

    return make


def tokenizer(folder: Path, **settings: Any) -> TextTokenizer:
    return TextTokenizer(
        folder, settings, with_types=False, limit=None, positions=None, lower=False, trust_remote_code=False
    )


def texts(chat: ChatTemplate, inputs: list[Any], prompt: str | None = None, **settings: Any) -> list[str]:
    """What the model reads, as text."""
    return [chat.text.transformers.decode(row) for row in ids(chat, inputs, prompt, **settings)]


def ids(
    chat: ChatTemplate, inputs: list[Any], prompt: str | None = None, limit: int | None = 10**6, **settings: Any
) -> list[list[int]]:
    table = chat.table(inputs, prompt, limit, settings.pop("task", None), settings)
    return [table.ids[a:b].tolist() for a, b in zip(table.starts[:-1], table.starts[1:], strict=True)]


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


# --- which form of content a template reads


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (None, None),
        ("", None),
        (FLAT, "flat"),
        (PARTS, "structured"),
        ("{{ messages[0]['content'][0]['type'] }}", "structured"),
        ('{{ messages[0]["content"][0]["type"] }}', "structured"),
        ("{% if messages[0].content is string %}{{ messages[0].content }}{% endif %}", "flat"),
    ],
)
def test_the_form_by_the_source_of_the_template(template: str | None, form: str | None, bare_folder: Path) -> None:
    assert form_of_template(tokenizer(bare_folder, **({} if template is None else {"chat_template": template}))) == form


@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json", "named"])
def test_the_form_by_a_file(place: str, tmp_path: Path) -> None:
    folder = heads.build_answering(tmp_path, PARTS if place.endswith("jinja") else None)
    if place != "chat_template.jinja":
        path = folder / "tokenizer_config.json"
        named = [{"name": "default", "template": PARTS}, {"name": "other", "template": FLAT}]
        config = json.loads(path.read_text("utf-8")) | {"chat_template": PARTS if place != "named" else named}
        path.write_text(json.dumps(config), encoding="utf-8")
    assert form_of_template(tokenizer(folder)) == "structured"
    transformer = Transformer(str(folder), transformer_task="text-generation")
    assert transformer.modality_config["message"]["format"] == "structured"
    assert transformer.tokenizer.decode(transformer.preprocess(["a cat"])["input_ids"][0]) == "<user>a cat;"


@pytest.mark.parametrize("given", [False, True])
def test_the_template_in_use_decides_where_there_are_several(given: bool, tmp_path: Path) -> None:
    """What was asked for wins, then the file of its own, then the config; as in transformers."""
    folder = heads.build_answering(tmp_path, PARTS if given else FLAT)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"chat_template": PARTS}), encoding="utf-8")
    text = tokenizer(folder, **({"chat_template": FLAT} if given else {}))
    assert form_of_template(text) == "flat"
    assert text.transformers.chat_template == FLAT


def test_the_form_is_found_without_making_the_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = heads.build_answering(tmp_path, FLAT)
    text = tokenizer(folder)
    monkeypatch.setattr(TextTokenizer, "transformers", property(lambda self: pytest.fail("it was made")))
    assert form_of_template(text) == "flat"


# --- inputs as conversations


@pytest.mark.parametrize("template", [FLAT, PARTS])
@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("a cat", "<user>a cat;"),
        ("", "<user>;"),
        ({"text": "a cat"}, "<user>a cat;"),
        (("q", "d"), "<query>q;<document>d;"),
        (["q", "d"], "<query>q;<document>d;"),
        (user("a cat"), "<user>a cat;"),
        ([user("a"), {"role": "assistant", "content": "b"}], "<user>a;<assistant>b;"),
        ((user("a"), user("b")), "<user>a;<user>b;"),
        (user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "<user>ab;"),
        (user(({"type": "text", "text": "a"},)), "<user>a;"),
        (user([]), "<user>;"),
    ],
)
def test_inputs_read_the_same_in_either_form(
    item: Any, expected: str, template: str, made: Callable[..., ChatTemplate]
) -> None:
    assert texts(made(template), [item]) == [expected]


@pytest.mark.parametrize("template", [FLAT, PARTS])
def test_the_prompt_is_what_the_system_says_first(template: str, made: Callable[..., ChatTemplate]) -> None:
    chat = made(template)
    assert texts(chat, ["a", ("q", "d")], "Do: ") == ["<system>Do: ;<user>a;", "<system>Do: ;<query>q;<document>d;"]
    assert texts(chat, ["a"], "") == texts(chat, ["a"]) == ["<user>a;"]
    system = [{"role": "system", "content": "S"}, user("a")]
    assert texts(chat, [system], "Do: ") == ["<system>Do: ;<system>S;<user>a;"]


def test_the_messages_of_the_caller_are_left_alone(made: Callable[..., ChatTemplate]) -> None:
    message = {**user("a"), "name": "Ann"}
    chat = made("{% for m in messages %}{{ m.name }}: {{ m.content[0].text }}{% endfor %}{# .type #}")
    assert texts(chat, [message], "Do: ") == [": Do: Ann: a"]
    assert message == {"role": "user", "content": "a", "name": "Ann"}


@pytest.mark.parametrize(
    "content",
    [None, 3, {"type": "text", "text": "a"}, ["a"], [{"type": "image", "image": "x.png"}], [{"text": None}]],
)
@pytest.mark.parametrize("template", [FLAT, PARTS])
def test_a_content_that_is_no_text_is_one_clear_error(
    content: Any, template: str, made: Callable[..., ChatTemplate]
) -> None:
    with pytest.raises(ValueError, match="the content of a message must be a string or a list of"):
        texts(made(template), ["fine", user(content)])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (3, "Unsupported input type: int"),
        (None, "Unsupported input type: NoneType"),
        ([], "Unsupported input type: list"),
        (("a", "b", "c"), "Unsupported input type: tuple"),
        ({"image": "x.png"}, "reads text alone; got a dict with the keys"),
        ({"role": "user"}, "got a dict with the keys"),
    ],
)
def test_an_input_that_is_no_conversation_is_one_clear_error(
    item: Any, message: str, made: Callable[..., ChatTemplate]
) -> None:
    with pytest.raises(ValueError, match=message):
        texts(made(FLAT), ["fine", item])


def test_no_inputs_are_no_rows(made: Callable[..., ChatTemplate]) -> None:
    assert ids(made(FLAT), []) == []


def test_settings_and_the_task_reach_the_template(made: Callable[..., ChatTemplate]) -> None:
    chat = made(FLAT + "{% if add_generation_prompt %}!{% endif %}{{ task }}{{ more }}")
    assert texts(chat, ["a"]) == ["<user>a;"]
    assert texts(chat, ["a"], add_generation_prompt=True, task="query", more=7) == ["<user>a;!query7"]


def test_no_special_tokens_are_added_to_those_of_the_template(made: Callable[..., ChatTemplate]) -> None:
    chat = made(FLAT)
    plain = chat.text.transformers("<user>a;", add_special_tokens=False)["input_ids"]
    assert ids(chat, ["a"]) == [plain]
    assert len(chat.text.transformers("<user>a;")["input_ids"]) == len(plain) + 1


# --- long ones


def test_a_long_conversation_keeps_the_last_tokens_of_the_template(made: Callable[..., ChatTemplate]) -> None:
    chat = made(ENDING)
    (whole,), (cut,), (bare,) = (
        ids(chat, ["sea " * 40], **settings) for settings in ({}, {"limit": 20}, {"limit": 20, "restore_suffix": False})
    )
    ending = ids(chat, [""])[0]
    assert len(cut) == len(bare) == 20 < len(whole)
    assert bare == whole[:20]
    assert cut == whole[: 20 - len(ending)] + ending
    assert chat.text.transformers.decode(cut).endswith(" | end")


def test_short_ones_of_the_same_call_stay_whole(made: Callable[..., ChatTemplate]) -> None:
    chat = made(ENDING)
    table = chat.table(["a", "sea " * 40, "b", "sea " * 50], None, 20, None, {})
    assert (list(table.cut), table.limit) == ([1, 3], 20)
    assert table.sizes[[1, 3]].tolist() == [20, 20]
    alone = [ids(chat, [item], limit=20)[0] for item in ("a", "sea " * 40, "b", "sea " * 50)]
    assert [table.ids[a:b].tolist() for a, b in zip(table.starts[:-1], table.starts[1:], strict=True)] == alone


def test_the_last_tokens_alone_may_be_too_many(made: Callable[..., ChatTemplate]) -> None:
    chat = made(ENDING)
    ending = ids(chat, [""])[0]
    assert len(ending) > 3
    assert ids(chat, ["sea " * 40], limit=3) == [ending[-3:]]


def test_the_last_tokens_are_those_of_the_settings(made: Callable[..., ChatTemplate]) -> None:
    """And are not remembered from a call with others."""
    chat = made("{% for m in messages %}{{ m.content }} {% endfor %}| {{ task }}")
    for task in ("query", "document", "query"):
        assert texts(chat, ["sea " * 40], limit=20, task=task)[0].endswith(f" | {task}")


def test_the_last_tokens_are_those_of_the_template_in_use(made: Callable[..., ChatTemplate]) -> None:
    chat = made(ENDING)
    assert texts(chat, ["sea " * 40], limit=20)[0].endswith(" | end")
    chat.text.transformers.chat_template = ENDING.replace("| end", "| for the sea")
    assert texts(chat, ["sea " * 40], limit=20)[0].endswith(" | for the sea")


def test_without_a_limit_that_of_the_tokenizer_counts(made: Callable[..., ChatTemplate]) -> None:
    chat = made(ENDING)
    assert chat.text.limit == 64
    table = chat.table(["sea " * 99], None, None, None, {})
    assert (table.limit, table.sizes.tolist(), list(table.cut)) == (64, [64], [0])


# --- pairs


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for m in messages if m.role == 'query' %}{{ m.content }}{% endfor %}", "the 'document' content does not"),
        (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
            "the 'query' and 'document'",
        ),
        ("{{ raise_exception('bad role') if messages[0].role == 'query' }}", "it raised TemplateError: bad role"),
    ],
)
def test_a_template_that_loses_a_part_of_a_pair_is_one_clear_error(
    template: str, why: str, made: Callable[..., ChatTemplate]
) -> None:
    chat = made(template)
    for pair in (("q", "d"), [{"role": "query", "content": "q"}, {"role": "document", "content": "d"}]):
        with pytest.raises(ValueError, match=f"cannot carry a 'query'/'document' pair .{why}.*chat_template"):
            texts(chat, ["fine", pair])
    texts(chat, ["fine"])


def test_the_template_of_the_call_is_what_must_carry_a_pair(made: Callable[..., ChatTemplate]) -> None:
    chat, other = made(FLAT), "{% for m in messages if m.role == 'query' %}{{ m.content }}{% endfor %}"
    assert texts(chat, [("q", "d")]) == ["<query>q;<document>d;"]
    with pytest.raises(ValueError, match="the 'document' content does not reach"):
        texts(chat, [("q", "d")], chat_template=other)
    with pytest.raises(ValueError, match="the 'document' content does not reach"):
        texts(made(other), [("q", "d")])
    assert texts(made(other), [("q", "d")], chat_template=FLAT) == ["<query>q;<document>d;"]


# --- within a model


def test_a_transformer_reads_messages_where_there_is_a_template(tmp_path: Path, bare_folder: Path) -> None:
    with_one = Transformer(str(heads.build_answering(tmp_path, FLAT)), transformer_task="text-generation")
    assert with_one.modalities == ["text", "message"]
    assert Transformer(str(bare_folder), transformer_task="text-generation").modalities == ["text"]


def test_a_saved_form_wins_over_the_look_of_the_template(tmp_path: Path) -> None:
    folder = heads.build_answering(tmp_path, FLAT)
    reached = {"method": "forward", "method_output_name": "logits"}
    modalities = {"text": reached, "message": reached | {"format": "structured"}}
    model = Transformer(str(folder), transformer_task="text-generation", modality_config=modalities)
    assert model.tokenizer.decode(model.preprocess(["a"])["input_ids"][0]) == "<user>[{'type': 'text', 'text': 'a'}];"


def test_prepared_and_preprocessed_are_the_same_tokens(tmp_path: Path) -> None:
    model = Transformer(str(heads.build_answering(tmp_path, ENDING)), transformer_task="text-generation")
    inputs = ["a", ("q", "d"), [user("a"), user("b")], "sea " * 99]
    padded = model.preprocess(inputs, prompt="Do: ")
    rows = [row[mask.bool()] for row, mask in zip(padded["input_ids"], padded["attention_mask"], strict=True)]
    prepared = model.prepare(inputs, prompt="Do: ")
    tokens = prepared.batch(torch.arange(4).numpy())["tokens"]
    assert torch.equal(tokens.ids, torch.cat(rows))
    assert (padded["modality"], list(prepared.cut), prepared.limit) == ("message", [3], 64)
