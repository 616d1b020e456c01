"""Metrics of embeddings, and reports.

What draws pictures (matplotlib) is imported from its modules: this package is cheap.
"""

from mmpt.evaluators.report import make_results, read_results, save_report
from mmpt.evaluators.retrieval import METRICS, rank_metrics, retrieval_metrics
from mmpt.evaluators.similarity import similarity
from mmpt.evaluators.tables import compare_table, csv_text, format_markdown, format_table

__all__ = [
    "METRICS",
    "compare_table",
    "csv_text",
    "format_markdown",
    "format_table",
    "make_results",
    "rank_metrics",
    "read_results",
    "retrieval_metrics",
    "save_report",
    "similarity",
]
