"""The part of the table that is about training: losses, evaluators, trainers, samplers, old data. Data only.

Rows are those of ``_public``: class -> (our file, its own path since 5.4).
"""

from __future__ import annotations

Rows = dict[str, tuple[str, str]]


def _in(file: str, package: str, **names: str) -> Rows:
    """Rows for classes of one file that have had a file each: class=the name of that file."""
    return {name: (file, f"{package}.{old}") for name, old in names.items()}


_LOSSES = "sentence_transformer.losses"
LOSSES: Rows = {
    **_in(
        "losses.contrastive",
        _LOSSES,
        MultipleNegativesRankingLoss="multiple_negatives_ranking",
        CachedMultipleNegativesRankingLoss="cached_multiple_negatives_ranking",
        MultipleNegativesSymmetricRankingLoss="multiple_negatives_symmetric_ranking",
        CachedMultipleNegativesSymmetricRankingLoss="cached_multiple_negatives_symmetric_ranking",
        MegaBatchMarginLoss="mega_batch_margin",
    ),
    **_in("losses.guided", _LOSSES, GISTEmbedLoss="gist_embed", CachedGISTEmbedLoss="cached_gist_embed"),
    **_in(
        "losses.pairs",
        _LOSSES,
        CoSENTLoss="cosent",
        AnglELoss="angle",
        CosineSimilarityLoss="cosine_similarity",
        ContrastiveLoss="contrastive",
        SiameseDistanceMetric="contrastive",
        OnlineContrastiveLoss="online_contrastive",
        SoftmaxLoss="softmax",
    ),
    **_in(
        "losses.triplets",
        _LOSSES,
        TripletLoss="triplet",
        TripletDistanceMetric="triplet",
        BatchAllTripletLoss="batch_all_triplet",
        BatchHardTripletLoss="batch_hard_triplet",
        BatchHardTripletLossDistanceFunction="batch_hard_triplet",
        BatchHardSoftMarginTripletLoss="batch_hard_soft_margin_triplet",
        BatchSemiHardTripletLoss="batch_semi_hard_triplet",
    ),
    **_in(
        "losses.distillation",
        _LOSSES,
        MSELoss="mse",
        EmbedDistillLoss="embed_distill",
        MarginMSELoss="margin_mse",
        DistillKLDivLoss="distill_kl_div",
    ),
    **_in(
        "losses.regularisation",
        _LOSSES,
        GlobalOrthogonalRegularizationLoss="global_orthogonal_regularization",
    ),
    **_in(
        "losses.wrappers",
        _LOSSES,
        MatryoshkaLoss="matryoshka",
        Matryoshka2dLoss="matryoshka_2d",
        AdaptiveLayerLoss="adaptive_layer",
    ),
    **_in(
        "losses.unsupervised",
        _LOSSES,
        DenoisingAutoEncoderLoss="denoising_auto_encoder",
        ContrastiveTensionLoss="contrastive_tension",
        ContrastiveTensionLossInBatchNegatives="contrastive_tension",
    ),
}
LATER_LOSSES = {  # which never had a path of before 5.4
    "BatchHardTripletLossDistanceFunction",
    "ContrastiveTensionLossInBatchNegatives",
    "EmbedDistillLoss",
    "GlobalOrthogonalRegularizationLoss",
    "SiameseDistanceMetric",
    "TripletDistanceMetric",
}
LOSS_DATA: Rows = _in("training.legacy.data", _LOSSES, ContrastiveTensionDataLoader="contrastive_tension")

_EVALUATION = "sentence_transformer.evaluation"
EVALUATORS: Rows = {
    **_in(
        "evaluation.classification",
        _EVALUATION,
        BinaryClassificationEvaluator="binary_classification",
        LabelAccuracyEvaluator="label_accuracy",
    ),
    **_in("evaluation.similarity", _EVALUATION, EmbeddingSimilarityEvaluator="embedding_similarity"),
    **_in("evaluation.retrieval", _EVALUATION, InformationRetrievalEvaluator="information_retrieval"),
    **_in("evaluation.mse", _EVALUATION, MSEEvaluator="mse", MSEEvaluatorFromDataFrame="mse_from_dataframe"),
    **_in("evaluation.nano_beir", _EVALUATION, NanoBEIREvaluator="nano_beir"),
    **_in("evaluation.paraphrases", _EVALUATION, ParaphraseMiningEvaluator="paraphrase_mining"),
    **_in("evaluation.reranking", _EVALUATION, RerankingEvaluator="reranking"),
    **_in("evaluation.translation", _EVALUATION, TranslationEvaluator="translation"),
    **_in("evaluation.triplet", _EVALUATION, TripletEvaluator="triplet"),
}
BASE_EVALUATORS: Rows = {
    **_in("evaluation.base", "base.evaluation", BaseEvaluator="evaluator", SentenceEvaluator="evaluator"),
    **_in("evaluation.base", "base.evaluation", SequentialEvaluator="sequential"),
}

DATASETS: Rows = {
    **_in(
        "training.legacy.data",
        "sentence_transformer.datasets",
        DenoisingAutoEncoderDataset="denoising_auto_encoder",
        NoDuplicatesDataLoader="no_duplicates_dataloader",
        SentenceLabelDataset="sentence_label",
        SentencesDataset="sentences",
    ),
    **_in(
        "training.legacy.parallel_data", "sentence_transformer.datasets", ParallelSentencesDataset="parallel_sentences"
    ),
}
READERS: Rows = {
    **_in("training.legacy.data", "sentence_transformer.readers", InputExample="input_example"),
    **_in(
        "training.legacy.readers",
        "sentence_transformer.readers",
        LabelSentenceReader="label_sentence",
        NLIDataReader="nli_data",
        PairedFilesReader="paired_files",
        STSDataReader="sts_data",
        STSBenchmarkDataReader="sts_data",
        TripletReader="triplet",
    ),
}

SAMPLERS: Rows = {
    name: ("training.samplers", "base.sampler")
    for name in (
        "BatchSamplers",
        "DefaultBatchSampler",
        "GroupByLabelBatchSampler",
        "MultiDatasetBatchSamplers",
        "MultiDatasetDefaultBatchSampler",
        "NoDuplicatesBatchSampler",
        "ProportionalBatchSampler",
        "RoundRobinBatchSampler",
        "SetEpochMixin",
    )
}
BASE_TRAINING: Rows = {
    "BaseDataCollator": ("training.collator", "base.data_collator"),
    "BaseTrainer": ("training.trainer", "base.trainer"),
    "BaseTrainingArguments": ("training.arguments", "base.training_args"),
}
DENSE_TRAINING: Rows = {
    "SentenceTransformerDataCollator": ("training.collator", "sentence_transformer.data_collator"),
    "SentenceTransformerTrainer": ("training.dense", "sentence_transformer.trainer"),
    "SentenceTransformerTrainingArguments": ("training.arguments", "sentence_transformer.training_args"),
}


# --- Rerankers, sparse and multi-vector encoders, the same way.

_CROSS_LOSSES = "cross_encoder.losses"
CROSS_LOSSES: Rows = {
    **_in(
        "losses.cross.pointwise",
        _CROSS_LOSSES,
        BinaryCrossEntropyLoss="binary_cross_entropy",
        CrossEntropyLoss="cross_entropy",
        MSELoss="mse",
        MarginMSELoss="margin_mse",
    ),
    **_in(
        "losses.cross.contrastive",
        _CROSS_LOSSES,
        MultipleNegativesRankingLoss="multiple_negatives_ranking",
        CachedMultipleNegativesRankingLoss="cached_multiple_negatives_ranking",
    ),
    **_in(
        "losses.cross.listwise",
        _CROSS_LOSSES,
        ListNetLoss="list_net",
        ListMLELoss="list_mle",
        PListMLELoss="plist_mle",
        PListMLELambdaWeight="plist_mle",
        ADRMSELoss="adr_mse",
    ),
    **_in(
        "losses.cross.lambda_rank",
        _CROSS_LOSSES,
        LambdaLoss="lambda_loss",
        NoWeightingScheme="lambda_loss",
        NDCGLoss1Scheme="lambda_loss",
        NDCGLoss2Scheme="lambda_loss",
        LambdaRankScheme="lambda_loss",
        NDCGLoss2PPScheme="lambda_loss",
        RankNetLoss="rank_net",
    ),
}
OLD_CROSS_LOSSES = {  # which had a path before 5.4 by the name of the class
    "BinaryCrossEntropyLoss",
    "CachedMultipleNegativesRankingLoss",
    "CrossEntropyLoss",
    "LambdaLoss",
    "ListMLELoss",
    "ListNetLoss",
    "MSELoss",
    "MarginMSELoss",
    "MultipleNegativesRankingLoss",
    "PListMLELoss",
    "RankNetLoss",
}
_SPARSE_LOSSES = "sparse_encoder.losses"
SPARSE_LOSSES: Rows = {
    **_in(
        "losses.sparse",
        _SPARSE_LOSSES,
        SpladeLoss="splade",
        CachedSpladeLoss="cached_splade",
        FlopsLoss="flops",
        CSRLoss="csr",
        CSRReconstructionLoss="csr",
        SparseMSELoss="sparse_mse",
    ),
    **_in(
        "losses.sparse_inner",
        _SPARSE_LOSSES,
        SparseMultipleNegativesRankingLoss="sparse_multiple_negatives_ranking",
        SparseMarginMSELoss="sparse_margin_mse",
        SparseDistillKLDivLoss="sparse_distill_kl_div",
        SparseTripletLoss="sparse_triplet",
        SparseCoSENTLoss="sparse_cosent",
        SparseAnglELoss="sparse_angle",
        SparseCosineSimilarityLoss="sparse_cosine_similarity",
    ),
}
_LATE_LOSSES = "multi_vector_encoder.losses"
LATE_LOSSES: Rows = _in(
    "losses.multi_vector",
    _LATE_LOSSES,
    MultiVectorMultipleNegativesRankingLoss="multiple_negatives_ranking",
    CachedMultiVectorMultipleNegativesRankingLoss="cached_multiple_negatives_ranking",
    MultiVectorDistillKLDivLoss="distill_kl_div",
    MultiVectorMarginMSELoss="margin_mse",
)

_CROSS_EVALUATION = "cross_encoder.evaluation"
CROSS_EVALUATORS: Rows = {
    **_in("evaluation.cross.classification", _CROSS_EVALUATION, CrossEncoderClassificationEvaluator="classification"),
    **_in("evaluation.cross.correlation", _CROSS_EVALUATION, CrossEncoderCorrelationEvaluator="correlation"),
    **_in("evaluation.cross.reranking", _CROSS_EVALUATION, CrossEncoderRerankingEvaluator="reranking"),
    **_in("evaluation.cross.nano_beir", _CROSS_EVALUATION, CrossEncoderNanoBEIREvaluator="nano_beir"),
    **_in(
        "evaluation.cross.deprecated",
        _CROSS_EVALUATION,
        CEBinaryAccuracyEvaluator="deprecated",
        CEBinaryClassificationEvaluator="deprecated",
        CECorrelationEvaluator="deprecated",
        CEF1Evaluator="deprecated",
        CERerankingEvaluator="deprecated",
        CESoftmaxAccuracyEvaluator="deprecated",
    ),
}
_SPARSE_EVALUATION = "sparse_encoder.evaluation"
SPARSE_EVALUATORS: Rows = {
    **_in(
        "evaluation.sparse",
        _SPARSE_EVALUATION,
        SparseBinaryClassificationEvaluator="sparse_binary_classification",
        SparseEmbeddingSimilarityEvaluator="sparse_embedding_similarity",
        SparseInformationRetrievalEvaluator="sparse_information_retrieval",
        SparseMSEEvaluator="sparse_mse",
        SparseNanoBEIREvaluator="sparse_nano_beir",
        SparseRerankingEvaluator="sparse_reranking",
        SparseTranslationEvaluator="sparse_translation",
        SparseTripletEvaluator="sparse_triplet",
    ),
    **_in("evaluation.fusion", _SPARSE_EVALUATION, ReciprocalRankFusionEvaluator="reciprocal_rank_fusion"),
}
_LATE_EVALUATION = "multi_vector_encoder.evaluation"
LATE_EVALUATORS: Rows = {
    **_in(
        "evaluation.multi_vector",
        _LATE_EVALUATION,
        MultiVectorInformationRetrievalEvaluator="multi_vector_information_retrieval",
        MultiVectorNanoBEIREvaluator="multi_vector_nano_beir",
        MultiVectorRerankingEvaluator="multi_vector_reranking",
        MultiVectorTripletEvaluator="multi_vector_triplet",
    ),
    **_in("evaluation.distillation", _LATE_EVALUATION, MultiVectorDistillationEvaluator="distillation"),
}


def _training(name: str, package: str, file: str) -> Rows:
    """The rows of a family: its trainer, collator and arguments."""
    return {
        f"{name}DataCollator": (file, f"{package}.data_collator"),
        f"{name}Trainer": (file, f"{package}.trainer"),
        f"{name}TrainingArguments": ("training.arguments", f"{package}.training_args"),
    }


CROSS_TRAINING = _training("CrossEncoder", "cross_encoder", "training.cross")
SPARSE_TRAINING = _training("SparseEncoder", "sparse_encoder", "training.sparse")
LATE_TRAINING = _training("MultiVectorEncoder", "multi_vector_encoder", "training.multi_vector")
SPARSE_CALLBACKS: Rows = {
    name: ("training.regularizer_weights", "sparse_encoder.callbacks.splade_callbacks")
    for name in ("SchedulerType", "SpladeRegularizerWeightSchedulerCallback")
}

TRAINING_ROWS = (
    *(LOSSES, EVALUATORS, BASE_EVALUATORS, DATASETS, READERS, SAMPLERS, BASE_TRAINING, DENSE_TRAINING),
    *(CROSS_LOSSES, CROSS_EVALUATORS, CROSS_TRAINING),
    *(SPARSE_LOSSES, SPARSE_EVALUATORS, SPARSE_TRAINING, SPARSE_CALLBACKS),
    *(LATE_LOSSES, LATE_EVALUATORS, LATE_TRAINING),
)
"""All whose own paths are other names of our files."""
