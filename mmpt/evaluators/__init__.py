"""Embedding with a trained model, retrieval metrics, and reports."""

from mmpt.evaluators.retrieval import METRICS, rank_metrics, retrieval_metrics
from mmpt.evaluators.similarity import similarity

__all__ = ["METRICS", "rank_metrics", "retrieval_metrics", "similarity"]
