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
