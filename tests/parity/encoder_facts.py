"""What is asked of the other three encoders: inputs, and calls whose outcome (error or kind of result) is recorded.

A fact is written as the call itself, so that recorder, golden file and test say the same words. ``m`` is the model.
The value says how an error is compared: a text must occur in both messages, "" compares the type only, ``ACCIDENT``
stands for an error the reference did not mean to raise: ours raises it, a TypeError or a ValueError.

Recorded but not asked, as ours is meant to differ: an empty result keeps its width, and ``rank(top_k=0)`` is an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

PAIRS = [
    ("the cat sat on the mat", "a dog sat by the door"),
    ("A long river", "runs from the high mountains down to the sea."),
    ("who?", ""),
    ("", "only the second"),
    ("", ""),
    ("x", "naïve 東京 😀"),
    ("a letter " * 30, "short"),
    ("short", "words that do not fit " * 20),
    ("both are long " * 15, "and must be cut " * 15),
    ("UPPER lower 12345", "(brackets) [more] #tag"),
]
QUERY = "where did the cat sit?"
DOCUMENTS = ["on the mat", "The river runs down to the sea.", "", "a dog sat by the door " * 9, "naïve café", "1 2 3"]
INSTRUCTION = "find this: "

TEXTS = [
    "the cat sat on the mat",
    "A dog, and [some] others!",
    "",
    "naïve 東京 😀",
    "Rivers and lakes are full of water, and so is the sea; who would have thought so?",
    "the long text that does not fit " * 12,
]

QWEN_TEMPLATE = """<|im_start|>system
Judge<|im_end|>
<|im_start|>user
<I>: {{ messages | selectattr("role", "eq", "system") | map(attribute="content") | first | default("any", true) }}
<Q>: {{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}
<D>: {{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}<|im_end|>
<|im_start|>assistant
"""
TEMPLATES = {
    "flat": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "parts": "{% for m in messages %}{{ m.role }}:{% for part in m.content %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %};{% endfor %}",
    "qwen": QWEN_TEMPLATE,
    "task": "{% for m in messages %}{{ m['role'] }}={{ m['content'] }};{% endfor %}task={{ task }}",
    "user": "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}",
    "query": "{% for m in messages %}{% if m['role'] == 'query' %}{{ m['content'] }}{% endif %}{% endfor %}",
    "raises": "{% for m in messages %}{% if m['role'] == 'query' %}{{ raise_exception('bad role') }}{% endif %}"
    "{{ m['content'] }}{% endfor %}",
}
"""Name -> chat template of the generative reranker."""

LONG = ("letter " * 30, "doc " * 40)
RENDERED: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "pair": ([("q", "d")], {}),
    "pairs": ([("q", "d"), ("the cat", "a dog sat")], {}),
    "list pair": ([["q", "d"]], {}),
    "pair with prompt": ([("q", "d")], {"prompt": "Do: "}),
    "pair with empty prompt": ([("q", "d")], {"prompt": ""}),
    "empty pair": ([("", "")], {}),
    "single text": (["q"], {}),
    "single text with prompt": (["q"], {"prompt": "Do: "}),
    "text and pair": (["q", ("a", "b")], {}),
    "conversation": ([[{"role": "query", "content": "q"}, {"role": "document", "content": "d"}]], {}),
    "message": ([{"role": "user", "content": "q"}], {}),
    "system message and prompt": (
        [[{"role": "system", "content": "S"}, {"role": "user", "content": "q"}]], {"prompt": "Do: "},
    ),
    "parts of content": ([[{"role": "user", "content": [{"type": "text", "text": "q"}]}]], {}),
    "long pair": ([LONG], {}),
    "long pair without the suffix": ([LONG], {"processing_kwargs": {"chat_template": {"restore_suffix": False}}}),
    "long and short pair": ([LONG, ("a", "b")], {}),
    "generation prompt": ([("q", "d")], {"processing_kwargs": {"chat_template": {"add_generation_prompt": True}}}),
    "long pair, generation prompt": ([LONG], {"processing_kwargs": {"chat_template": {"add_generation_prompt": True}}}),
    "at most 12 tokens": ([("q", "d")], {"processing_kwargs": {"text": {"max_length": 12}}}),
    "task": ([("q", "d")], {"task": "query"}),
    "three texts": ([("q", "d", "e")], {}),
}  # fmt: skip
"""Name -> inputs and options of ``preprocess`` of a generative reranker, under each template."""


def asked(template: str) -> list[str]:
    """Which of ``RENDERED`` are asked of a template. Left out: contents in another form than the template reads, which
    the reference hands over as they are."""
    if template in {"user", "query", "raises"}:
        return ["pair", "pair with prompt", "text and pair", "conversation"]
    other = {"conversation", "message", "system message and prompt"} if template == "parts" else {"parts of content"}
    return [name for name in RENDERED if name not in other]


ACCIDENT = "accident"

_INPUT = "Unsupported input type: {}"
_NONE, _INT, _LIST, _TUPLE = (_INPUT.format(name) for name in ("NoneType", "int", "list", "tuple"))
_PROMPT = "Prompt name 'nope' not found in the configured prompts dictionary with keys ["
_BATCH = "batch_size must be a positive integer, got "
_UNUSED = "has been called with additional keyword arguments that this model does not use: ['{}']"
_ACTIVE = "max_active_dims must be a positive integer, got "
_EMPTY = "An empty modules list was passed to {}"

CROSS = {
    "m.predict(None)": _NONE,
    "m.predict(123)": _INT,
    "m.predict([], convert_to_tensor=True)": "",
    "m.predict([], convert_to_numpy=False)": "",
    "m.predict('text')": "",
    "m.predict(['a', 'b'])": "",
    "m.predict(('a', 'b'))": "",
    "m.predict(np.array(['a', 'b']))": "",
    "m.predict(np.array([['a', 'b'], ['c', 'd']]))": "",
    "m.predict([('a', 'b')])": "",
    "m.predict([('a', 'b'), 'c'])": "",
    "m.predict({'text': 'a'})": "",
    "m.predict([('a', 'b')], convert_to_tensor=True)": "",
    "m.predict([('a', 'b')], convert_to_numpy=False)": "",
    "m.predict(('a', 'b'), convert_to_tensor=True)": "",
    "m.predict(('a', 'b'), convert_to_numpy=False)": "",
    "m.predict([('a', 'b')], apply_softmax=True)": "",
    "m.predict(('a', 'b'), apply_softmax=True)": "",
    "m.predict(['a'])": _INPUT.format(""),
    "m.predict(['a', 'b', 'c'])": _INPUT.format(""),
    "m.predict([('a', 'b', 'c')])": _TUPLE,
    "m.predict([('a',)])": _TUPLE,
    "m.predict([[]])": _LIST,
    "m.predict([('a', 1)])": _INT,
    "m.predict([('a', None)])": _NONE,
    "m.predict([(1, 2)])": _INT,
    "m.predict([1, 2])": _INT,
    "m.predict([('a', 'b')], prompt_name='nope')": _PROMPT,
    "m.predict([], prompt_name='nope')": _PROMPT,
    "m.predict([('a', 'b')], batch_size=0)": _BATCH,
    "m.predict([('a', 'b')], batch_size=-1)": _BATCH,
    "m.predict([], batch_size=0)": _BATCH,
    "m.predict([('a', 'b')], foo=1)": "",
    "m.predict([('a', 'b')], task='query')": "",
    "m.predict([('a ' * 20, 'b ' * 20)], max_length=9)": "",
    "m.predict([('a', 'b')], activation_fn=torch.tanh)": "",
    "m.predict([('a', 'b')], activation_fn='tanh')": ACCIDENT,
    "m.predict([('a', 'b')], device='nope')": "",
    "m.predict(sentences=[('a', 'b')])": "",
    "m.rank('q', [])": "",
    "m.rank('q', ['a', 'b'], top_k=1)": "",
    "m.rank('q', ['a', 'b'], top_k=10)": "",
    "m.rank('q', ['a', 'b'], return_documents=True)": "",
    "m.rank('q', ['a', 'b'], convert_to_tensor=True)": "",
    "m.rank('q', ['a', 'a', 'a'], top_k=2)": "",
    "m.rank('q', [1, 2])": _INT,
    "m.rank('q', None)": ACCIDENT,
    "m.rank(None, ['a'])": _NONE,
    "m.rank('q', ['a'], prompt_name='nope')": _PROMPT,
    "m.rank('q', ['a'], batch_size=0)": _BATCH,
    "m.encode(['a'])": "",
    "m.preprocess([])": "",
    "m.num_labels": "",
    "m.max_seq_length": "",
    "m.prompts": "",
    "type(m.activation_fn).__name__": "",
    "type(m.get_default_activation_fn()).__name__": "",
    "cls(modules=[])": _EMPTY.format("CrossEncoder"),
    "cls()": ACCIDENT,
    "cls(path, max_length=8).max_seq_length": "",
    "cls(path, num_labels=2)": ACCIDENT,
    "cls(path, default_prompt_name='x')": "Default prompt name 'x' not found in the configured prompts dictionary",
    "type(cls(path, activation_fn=torch.nn.Tanh()).activation_fn).__name__": "",
    "cls(path, prompts={'a': 'b'}).prompts": "",
}
CROSS_LABELS = {
    "m.predict([('a', 'b')])": "",
    "m.predict(('a', 'b'))": "",
    "m.predict([('a', 'b')], convert_to_tensor=True)": "",
    "m.predict([('a', 'b')], convert_to_numpy=False)": "",
    "m.predict(('a', 'b'), convert_to_tensor=True)": "",
    "m.predict([('a', 'b')], apply_softmax=True)": "",
    "m.predict(('a', 'b'), apply_softmax=True)": "",
    "m.rank('q', ['a'])": "CrossEncoder.rank() only works for models with num_labels=1",
    "m.rank('q', [])": "CrossEncoder.rank() only works for models with num_labels=1",
    "m.num_labels": "",
    "type(m.activation_fn).__name__": "",
    "cls(path, num_labels=1)": ACCIDENT,
}
SPARSE = {
    "m.encode([], convert_to_tensor=False)": "",
    "m.encode([], convert_to_tensor=False, convert_to_sparse_tensor=False)": "",
    "m.encode(['a', 'b'])": "",
    "m.encode('a')": "",
    "m.encode('a', convert_to_sparse_tensor=False)": "",
    "m.encode('a', convert_to_tensor=False)": "",
    "m.encode('a', convert_to_tensor=False, convert_to_sparse_tensor=False)": "",
    "m.encode(['a', 'b'], convert_to_sparse_tensor=False)": "",
    "m.encode(['a', 'b'], convert_to_tensor=False)": "",
    "m.encode(['a', 'b'], convert_to_tensor=False, convert_to_sparse_tensor=False)": "",
    "m.encode([('a', 'b')])": "",
    "m.encode(None)": _NONE,
    "m.encode([None])": _NONE,
    "m.encode(123)": _INT,
    "m.encode([1])": _INT,
    "m.encode(['a'], prompt_name='nope')": _PROMPT,
    "m.encode([], prompt_name='nope')": _PROMPT,
    "m.encode(['a'], batch_size=0)": _BATCH,
    "m.encode([], batch_size=0)": _BATCH,
    "m.encode(['a'], foo=1)": _UNUSED.format("foo"),
    "m.encode([], foo=1)": _UNUSED.format("foo"),
    "m.encode(['a'], convert_to_numpy=True)": _UNUSED.format("convert_to_numpy"),
    "m.encode(['a'], normalize_embeddings=True)": _UNUSED.format("normalize_embeddings"),
    "m.encode(['a'], output_value='token_embeddings')": _UNUSED.format("output_value"),
    "m.encode(['a'], precision='int8')": _UNUSED.format("precision"),
    "m.encode(['a'], truncate_dim=4)": _UNUSED.format("truncate_dim"),
    "m.encode(['a'], task='query')": "",
    "m.encode(['a'], task='nope')": "",
    "m.encode_query(['a'], task='document')": ACCIDENT,
    "m.encode(sentences=['a'])": "",
    "m.encode(['a'], max_active_dims=0)": _ACTIVE,
    "m.encode(['a'], max_active_dims=-1)": _ACTIVE,
    "m.encode(['a'], max_active_dims=True)": ACCIDENT,
    "m.encode(['a'], max_active_dims=1.5)": ACCIDENT,
    "m.encode(['a'], max_active_dims='3')": ACCIDENT,
    "m.encode(['a'], max_active_dims=3, convert_to_sparse_tensor=False).count_nonzero()": "",
    "m.encode(['a'], max_active_dims=100000)": "",
    "m.max_active_dims": "",
    "cls(path, max_active_dims=0)": _ACTIVE,
    "cls(path, max_active_dims=True)": _ACTIVE,
    "cls(path, max_active_dims=1.5)": _ACTIVE,
    "cls(path, max_active_dims=5).max_active_dims": "",
    "m.decode(rows, top_k=2)": "",
    "m.decode(dense, top_k=2)": "",
    "m.decode(rows[0], top_k=2)": "",
    "m.decode(dense[0], top_k=2)": "",
    "m.decode(rows, top_k=0)": "top_k must be a positive integer, got 0",
    "m.decode(rows, top_k=-1)": "top_k must be a positive integer, got -1",
    "m.decode(rows, top_k=1.5)": ACCIDENT,
    "m.decode([rows[0], rows[1]])": "Expected torch.Tensor, got <class 'list'>",
    "m.decode(dense.numpy())": "Expected torch.Tensor, got <class 'numpy.ndarray'>",
    "m.decode(None)": "Expected torch.Tensor, got <class 'NoneType'>",
    "m.decode(dense[None])": "must be 1D or 2D, got 3D",
    "m.decode(torch.tensor([]))": "",
    "m.decode(m.encode([]))": "",
    "m.decode(torch.zeros(0, dense.shape[1]))": "",
    "m.decode(torch.zeros(2, dense.shape[1]))": "",
    "m.decode(torch.zeros(dense.shape[1]))": "",
    "m.decode(-torch.eye(dense.shape[1])[:2])": "",
    "m.sparsity(rows)": "",
    "m.sparsity(dense)": "",
    "m.sparsity(rows[0])": "",
    "m.sparsity(dense[0])": "",
    "cls.sparsity(rows)": "",
    "m.sparsity([rows[0]])": "must be a torch.Tensor",
    "m.sparsity(dense.numpy())": "must be a torch.Tensor",
    "m.sparsity(dense[None])": "Expected a 1D or 2D tensor, got 3D",
    "m.sparsity(torch.tensor(1.0))": "Expected a 1D or 2D tensor, got 0D",
    "m.sparsity(torch.tensor([]))": "",
    "m.sparsity(torch.zeros(0, 5))": "",
    "m.sparsity(torch.zeros(2, 5))": "",
    "m.sparsity(m.encode([]))": "",
    "m.intersection(rows[0], rows[1])": "",
    "m.intersection(rows[0], rows)": "",
    "m.intersection(dense[0], dense[1])": "",
    "m.intersection(dense[0], dense)": "",
    "m.intersection(rows[0], -dense[1])": "",
    "m.intersection(rows, rows[0])": "Expected 1D tensor for embeddings_1",
    "m.intersection(rows[0], torch.zeros(5))": "dimension mismatch",
    "m.intersection(rows[0], torch.zeros(2, 5))": "dimension mismatch",
    "m.intersection([1], [2])": ACCIDENT,
    "m.similarity(rows, rows)": "",
    "m.similarity(dense, dense)": "",
    "m.similarity(rows, dense)": "",
    "m.similarity(rows[0], rows)": "",
    "m.similarity(rows[0], rows[1])": "",
    "m.similarity([rows[0], rows[1]], rows)": "",
    "m.similarity(dense.numpy(), dense.numpy())": "",
    "m.similarity_pairwise(rows, rows)": "",
    "m.similarity_pairwise(dense, dense)": "",
    "m.similarity_pairwise(rows[0], rows[1])": "",
    "m.similarity_fn_name": "",
    "cls(path, similarity_fn_name='nope')": "in ('cosine', 'dot', 'euclidean', 'manhattan')",
    "cls(path, similarity_fn_name='maxsim')": "MultiVectorEncoder",
    "setattr(m, 'similarity_fn_name', 'nope')": "only supports similarity_fn_name in",
    "(m.encode('a'), m.get_embedding_dimension())[1]": "",
    "m.max_seq_length": "",
    "m.get_model_kwargs()": "",
    "m.splade_pooling_chunk_size": "",
    "m.prompts": "",
    "cls(modules=[])": _EMPTY.format("SparseEncoder"),
    "cls()": ACCIDENT,
    "SpladePooling('mean')": "pooling_strategy must be ",
    "SpladePooling('max', 'tanh')": "activation_function must be ",
    "SpladePooling().get_embedding_dimension()": "",
    "routed.encode(['a'], task='nope')": "No route found for task type 'nope'",
    "routed.encode(['a'])": "",
    "routed.encode_query(['a'])": "",
    "sorted(routed.get_model_kwargs())": "",
    "routed.encode(['a'], foo=1)": "has been called with additional keyword arguments",
    "routed.get_embedding_dimension()": "",
    "routed.max_seq_length": "",
    "csr.max_active_dims": "",
    "csr.encode(['a', 'b'])": "",
    "csr.get_embedding_dimension()": "",
    "csr.splade_pooling_chunk_size": "",
    "csr.encode(['a'], max_active_dims=3, convert_to_sparse_tensor=False).count_nonzero()": "",
}  # fmt: skip

_STACK = "convert_to_tensor"
_OUTPUT = 'output_value must be "token_embeddings" or None'
_NAMES = "('maxsim', 'meanmaxsim')"
LATE = {
    "m.encode([])": "",
    "m.encode(())": "",
    "m.encode([], convert_to_numpy=True)": "",
    "m.encode([], output_value=None)": "",
    "m.encode_query([])": "",
    "m.encode([], convert_to_tensor=True)": _STACK,
    "m.encode('a cat', convert_to_tensor=True)": _STACK,
    "m.encode(['a cat'], convert_to_tensor=False)": _STACK,
    "m.encode('a cat')": "",
    "m.encode('a cat', convert_to_numpy=True)": "",
    "m.encode(['a cat', 'b'])": "",
    "m.encode(['a cat', 'b'], convert_to_numpy=True)": "",
    "[m.encode(['a cat', 'b'], output_value=None)[1][key] for key in KEYS]": "",
    "[m.encode('a cat', output_value=None)[key] for key in KEYS]": "",
    "m.encode('a cat', output_value='sentence_embedding')": _OUTPUT,
    "m.encode('a cat', output_value='nope')": _OUTPUT,
    "m.encode('a cat', precision='int8')": _UNUSED.format("precision"),
    "m.encode('a cat', truncate_dim=4)": _UNUSED.format("truncate_dim"),
    "m.encode('a cat', foo=1)": _UNUSED.format("foo"),
    "m.encode([], foo=1)": _UNUSED.format("foo"),
    "m.encode('a cat.', task='query')": "",
    "m.encode('a cat.', task='document')": "",
    "m.encode('a cat.', task=None)": "",
    "m.encode('a cat.', task='nope')": "",
    "m.encode_query('a cat', task='document')": ACCIDENT,
    "m.encode_document('a cat', task='query')": ACCIDENT,
    "m.encode('a', prompt_name='nope')": _PROMPT,
    "m.encode([], prompt_name='nope')": _PROMPT,
    "m.encode(['a'], batch_size=0)": _BATCH,
    "m.encode([], batch_size=0)": _BATCH,
    "m.encode(None)": _NONE,
    "m.encode([None])": _NONE,
    "m.encode(123)": _INT,
    "m.encode([1])": _INT,
    "m.encode([('a', 'b')])": "",
    "m.encode([''])": "",
    "m.encode(['...'])": "",
    "m.encode_document('...')": "",
    "m.encode(['a'], token_pooling=3)": ACCIDENT,
    "m.encode(['a'], token_pooling='hierarchical')": ACCIDENT,
    "m.encode_document('a b c d e f g h', token_pooling=HierarchicalTokenPooling(2))": "",
    "m.encode_query('a b c d e f g h', token_pooling=HierarchicalTokenPooling(2))": "",
    "HierarchicalTokenPooling(0.5)": "pool_factor must be >= 1, got 0.5",
    "HierarchicalTokenPooling(0)": "pool_factor must be >= 1, got 0",
    "HierarchicalTokenPooling(2, num_protected_tokens=-1)": "num_protected_tokens must be >= 0, got -1",
    "LambdaTokenPooling(torch.clone).save('.')": "cannot be saved",
    "m.similarity_fn_name": "",
    "setattr(m, 'similarity_fn_name', 'cosine')": _NAMES,
    "setattr(m, 'similarity_fn_name', 'xtr')": "xtr_scores",
    "setattr(m, 'similarity_fn_name', 'MAXSIM')": _NAMES,
    "cls(path, similarity_fn_name='cosine')": _NAMES,
    "cls(path, similarity_fn_name='meanmaxsim').similarity_fn_name": "",
    "m.similarity(tokens, tokens)": "",
    "m.similarity(tokens[0], tokens)": "",
    "m.similarity(tokens[0], tokens[0])": "",
    "m.similarity(tokens, [])": "",
    "m.similarity([], tokens)": "",
    "m.similarity([], [])": "",
    "m.similarity([t.numpy() for t in tokens], [t.numpy() for t in tokens])": "",
    "m.similarity(torch.stack([tokens[0], tokens[0]]), tokens)": "",
    "m.similarity(tokens, [torch.zeros(0, 16)])": "",
    "m.similarity(tokens, [torch.zeros(3, 16)])": "",
    "m.similarity([torch.zeros(0, 16)], tokens)": "",
    "m.similarity(tokens, tokens, chunk_elements=1)": "",
    "m.similarity(tokens, tokens, foo=1)": "unexpected keyword argument 'foo'",
    "m.similarity(None, tokens)": ACCIDENT,
    "m.similarity('a', tokens)": ACCIDENT,
    "m.similarity([tokens[0][0]], tokens)": ACCIDENT,
    "m.similarity(tokens, [torch.zeros(3, 5)])": ACCIDENT,
    "m.similarity_pairwise(tokens, tokens)": "",
    "m.similarity_pairwise(tokens, tokens[:1])": "same number of items",
    "m.similarity_pairwise(tokens[0], tokens[1])": "",
    "m.similarity_pairwise([], [])": "",
    "(m.encode('a'), m.get_embedding_dimension())[1]": "",
    "m.max_seq_length": "",
    "m.prompts": "",
    "m.get_model_kwargs()": "",
    "m.rank('a', ['b'])": "",
    "m.encode(sentences=['a'])": "",
    "cls(modules=[])": _EMPTY.format("MultiVectorEncoder"),
    "cls()": ACCIDENT,
    "cls(path, truncate_dim=4)": "truncate_dim",
    "Transformer(path, query_expansion={'strategy': 'nope', 'length': 8})": "strategy",
    "Transformer(path, query_expansion={'strategy': 'fixed'})": "length",
    "Transformer(path, query_expansion={'strategy': 'fixed', 'length': 0})": "length",
    "Transformer(path, query_expansion={'strategy': 'fixed', 'length': 8, 'foo': 1})": "foo",
    "Transformer(path, query_expansion={'strategy': 'fixed', 'length': 8, 'token': 'nope'})": "nope",
    "Transformer(path, query_length=4, query_expansion={'strategy': 'fixed', 'length': 8})": "query_length",
    "Transformer(path, query_expansion='fixed')": ACCIDENT,
}


KEYS = ("input_ids", "attention_mask", "token_embeddings")
"""The features that both implementations give for each input."""


def evaluated(call: str, names: dict[str, Any]) -> Any:
    """The result of one of the calls above."""
    return eval(call, {"np": np, "torch": torch, "KEYS": KEYS, **names})


def outcome(call: str, names: dict[str, Any]) -> dict[str, Any]:
    """What one of the calls above does: ``{"raises", "says"}`` or ``{"returns"}``, ready for JSON."""
    try:
        found = evaluated(call, names)
    except Exception as error:
        return {"raises": type(error).__name__, "says": str(error)[:240]}
    return {"returns": described(found)}


def described(value: Any) -> Any:
    """Kind, shape and dtype of arrays and tensors (the number itself where there is one); containers by their items."""
    if isinstance(value, torch.Tensor):
        kind: dict[str, Any] = {"tensor": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        if value.layout != torch.strided:
            kind["layout"] = str(value.layout).removeprefix("torch.")
        return kind | ({"value": value.item()} if value.dim() == 0 else {})
    if isinstance(value, np.ndarray):
        return {"array": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        return {"scalar": str(value.dtype), "value": value.item()}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [described(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": {str(name): described(item) for name, item in value.items()}}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return {"object": type(value).__name__}
