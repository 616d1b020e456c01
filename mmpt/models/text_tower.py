"""The text side of dual encoders with a separate text tower."""

from collections.abc import Sequence

from torch import Tensor

from mmpt.models.batch_layout import Prompts
from mmpt.models.bert import BertModel
from mmpt.models.dual_encoder import DualEncoder
from mmpt.models.prompts import TextCache, pool_text
from mmpt.models.signwriting_bert import SignWritingBert


class WithTextTower(DualEncoder):
    """A dual encoder with a separate text encoder for prompts, whose BERT is trained or frozen."""

    text_encoder: BertModel | SignWritingBert
    freeze_text: bool
    text_cache: TextCache

    def _take_text_tower(self, text_encoder: BertModel | SignWritingBert, freeze: bool) -> None:
        """Set the text encoder. A frozen BERT has no gradients and no dropout, and caches prompts."""
        self.text_settings = text_encoder.settings
        self.text_encoder = text_encoder
        self.freeze_text = freeze
        self.text_cache = TextCache(text_encoder.bert)
        if freeze:
            text_encoder.bert.requires_grad_(False)
            text_encoder.bert.eval()

    def train(self, mode: bool = True) -> "WithTextTower":
        """As nn.Module.train, but a frozen BERT stays in evaluation mode (no dropout)."""
        super().train(mode)
        if self.freeze_text:
            self.text_encoder.bert.eval()
        return self

    def _pool_prompts(self, ids: Tensor, mask: Tensor, prompts: Prompts | None = None) -> Tensor:
        return self.text_encoder.pool(ids, mask, self._pool_words, prompts)

    def _pool_words(self, ids: Tensor, mask: Tensor, prompts: Prompts | None) -> Tensor:
        if self.freeze_text and self.packed:
            keys = None if prompts is None else prompts.keys
            return self.text_cache.lookup(ids, mask, self._run_bert, keys)
        return self._run_bert(ids, mask, None if prompts is None else prompts.lengths)

    def _run_bert(self, ids: Tensor, mask: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        return pool_text(*self.text_encoder.bert.encode(ids, mask, lengths=lengths), mask)
