"""The public names as type checkers see them. A test compares this file with the table in ``_public``."""

from types import ModuleType

from sentence_transformers._version import __version__ as __version__
from sentence_transformers.cards.data import CrossEncoderModelCardData as CrossEncoderModelCardData
from sentence_transformers.cards.data import MultiVectorEncoderModelCardData as MultiVectorEncoderModelCardData
from sentence_transformers.cards.data import SentenceTransformerModelCardData as SentenceTransformerModelCardData
from sentence_transformers.cards.data import SparseEncoderModelCardData as SparseEncoderModelCardData
from sentence_transformers.encoders.cross import CrossEncoder as CrossEncoder
from sentence_transformers.encoders.dense import SentenceTransformer as SentenceTransformer
from sentence_transformers.encoders.exporting import (
    export_dynamic_quantized_onnx_model as export_dynamic_quantized_onnx_model,
)
from sentence_transformers.encoders.exporting import export_optimized_onnx_model as export_optimized_onnx_model
from sentence_transformers.encoders.exporting import (
    export_static_quantized_openvino_model as export_static_quantized_openvino_model,
)
from sentence_transformers.encoders.graph_encoder import GraphEncoder as GraphEncoder
from sentence_transformers.encoders.multi_vector import MultiVectorEncoder as MultiVectorEncoder
from sentence_transformers.encoders.sparse import SparseEncoder as SparseEncoder
from sentence_transformers.ops.logs import LoggingHandler as LoggingHandler
from sentence_transformers.ops.quantize import quantize_embeddings as quantize_embeddings
from sentence_transformers.ops.similarity import SimilarityFunction as SimilarityFunction
from sentence_transformers.search.mining import mine_hard_negatives as mine_hard_negatives
from sentence_transformers.search.resolve import resolve_ids as resolve_ids
from sentence_transformers.training.arguments import CrossEncoderTrainingArguments as CrossEncoderTrainingArguments
from sentence_transformers.training.arguments import (
    MultiVectorEncoderTrainingArguments as MultiVectorEncoderTrainingArguments,
)
from sentence_transformers.training.arguments import (
    SentenceTransformerTrainingArguments as SentenceTransformerTrainingArguments,
)
from sentence_transformers.training.arguments import SparseEncoderTrainingArguments as SparseEncoderTrainingArguments
from sentence_transformers.training.cross import CrossEncoderTrainer as CrossEncoderTrainer
from sentence_transformers.training.dense import SentenceTransformerTrainer as SentenceTransformerTrainer
from sentence_transformers.training.legacy.data import InputExample as InputExample
from sentence_transformers.training.legacy.data import SentencesDataset as SentencesDataset
from sentence_transformers.training.legacy.parallel_data import ParallelSentencesDataset as ParallelSentencesDataset
from sentence_transformers.training.multi_vector import MultiVectorEncoderTrainer as MultiVectorEncoderTrainer
from sentence_transformers.training.samplers import DefaultBatchSampler as DefaultBatchSampler
from sentence_transformers.training.samplers import MultiDatasetDefaultBatchSampler as MultiDatasetDefaultBatchSampler
from sentence_transformers.training.sparse import SparseEncoderTrainer as SparseEncoderTrainer

__MODEL_HUB_ORGANIZATION__: str

backend: ModuleType
base: ModuleType
cross_encoder: ModuleType
data_collator: ModuleType
datasets: ModuleType
evaluation: ModuleType
losses: ModuleType
model_card: ModuleType
models: ModuleType
multi_vector_encoder: ModuleType
peft_mixin: ModuleType
quantization: ModuleType
readers: ModuleType
sampler: ModuleType
sentence_transformer: ModuleType
sparse_encoder: ModuleType
stores: ModuleType
similarity_functions: ModuleType
trainer: ModuleType
training_args: ModuleType
util: ModuleType
