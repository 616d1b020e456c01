"""Top-k search in embeddings: exact with NumPy, approximate with faiss."""

from mmpt.search.approximate import KINDS, has_faiss
from mmpt.search.exact import Hits, top_k
from mmpt.search.index import Index, build_index
from mmpt.search.sources import Embeddings, read_embeddings

__all__ = [
    "KINDS",
    "Embeddings",
    "Hits",
    "Index",
    "build_index",
    "has_faiss",
    "read_embeddings",
    "top_k",
]
