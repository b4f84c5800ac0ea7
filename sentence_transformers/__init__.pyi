"""The public names as type checkers see them. A test compares this file with the table in ``_public``."""

from types import ModuleType

from sentence_transformers._version import __version__ as __version__
from sentence_transformers.cards.data import SentenceTransformerModelCardData as SentenceTransformerModelCardData
from sentence_transformers.encoders.dense import SentenceTransformer as SentenceTransformer
from sentence_transformers.ops.quantize import quantize_embeddings as quantize_embeddings
from sentence_transformers.ops.similarity import SimilarityFunction as SimilarityFunction

__MODEL_HUB_ORGANIZATION__: str

base: ModuleType
model_card: ModuleType
models: ModuleType
quantization: ModuleType
sentence_transformer: ModuleType
similarity_functions: ModuleType
util: ModuleType
