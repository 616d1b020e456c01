"""The text side of dual encoders with a separate text tower."""

from torch import Tensor

from mmpt.models.bert import BertModel
from mmpt.models.dual_encoder import DualEncoder
from mmpt.models.prompts import TextCache, pool_text


class WithTextTower(DualEncoder):
    """A dual encoder with a separate BERT for prompts, trained or frozen."""

    text_encoder: BertModel
    freeze_text: bool
    text_cache: TextCache

    def _take_text_tower(self, text_encoder: BertModel, freeze: bool) -> None:
        """Set the text tower. A frozen one has no gradients and no dropout, and caches prompts."""
        self.text_settings = text_encoder.settings
        self.text_encoder = text_encoder
        self.freeze_text = freeze
        self.text_cache = TextCache(text_encoder)
        if freeze:
            text_encoder.requires_grad_(False)
            text_encoder.eval()

    def train(self, mode: bool = True) -> "WithTextTower":
        """As nn.Module.train, but a frozen text tower stays in evaluation mode (no dropout)."""
        super().train(mode)
        if self.freeze_text:
            self.text_encoder.eval()
        return self

    def _pool_prompts(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.freeze_text and self.packed:
            return self.text_cache.lookup(ids, mask, self._run_text_tower)
        return self._run_text_tower(ids, mask)

    def _run_text_tower(self, ids: Tensor, mask: Tensor) -> Tensor:
        return pool_text(*self.text_encoder.encode(ids, mask), mask)
