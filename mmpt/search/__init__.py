"""Top-k search in embeddings: exact with NumPy, approximate with faiss."""

from mmpt.search.exact import Hits, top_k
from mmpt.search.index import Index, build_index
from mmpt.search.sources import Embeddings, read_embeddings

__all__ = [
    "Embeddings",
    "Hits",
    "Index",
    "build_index",
    "read_embeddings",
    "top_k",
]
