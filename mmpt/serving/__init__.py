"""An HTTP API and a page over a trained model, an index and folders of results."""

from mmpt.serving.limits import Limits

__all__ = ["Limits"]
