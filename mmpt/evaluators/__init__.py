"""Evaluation of embeddings.

metrics       similarities, ranks, recall@k and the other metrics, bootstrap intervals
protocols     the protocols of eval.protocol: retrieval, unseen-alphabet, sentences, one-shot
recognition   classifiers on embeddings, the protocols of isolated sign recognition, their report
reports       results.json, results.md and the tables in them
pictures      confusion matrix, recall by class, embedding map (not imported here: matplotlib is slow)
evaluation    evaluates the checkpoint of a task
provenance    digests of the settings and data that determine a result
"""

from mmpt.evaluators.metrics.retrieval import rank_metrics, retrieval_metrics
from mmpt.evaluators.metrics.sentences import sentence_metrics
from mmpt.evaluators.metrics.similarity import similarity

__all__ = ["rank_metrics", "retrieval_metrics", "sentence_metrics", "similarity"]
