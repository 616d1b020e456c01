"""What training does not import."""

import sys

import numpy as np
import torch
from torch.optim import AdamW

from mmpt.fairseq_plugin.optimizer import FusedAdam
from tests.commands import Forked


def update() -> None:
    """In a process whose parent imported fairseq."""
    from tests.warm_up import IMPORTED

    before = {*sys.modules}
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = FusedAdam([parameter], lr=1e-3)
    parameter.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
    assert FusedAdam.__module__ in IMPORTED
    slow = {"sklearn", "scipy.stats", "torch._dynamo", "sympy", "transformers"}
    assert not slow & IMPORTED, slow & IMPORTED
    assert "torch._dynamo" not in before, "imported before the update: that of the update would not be seen"
    assert not slow & ({*sys.modules} - before), slow & ({*sys.modules} - before)


def test_training_imports_neither_scikit_learn_nor_torch_compile() -> None:
    """Each takes seconds."""
    done = Forked(update).end()
    assert done.returncode == 0, done.stderr


def use_scikit_learn() -> None:
    """In a process that imported fairseq first."""
    import sklearn.metrics
    from fairseq.criterions import sentence_prediction
    from fairseq.tasks import audio_classification

    assert type(audio_classification.sklearn_metrics).__name__ == "_Deferred"
    assert audio_classification.sklearn_metrics.accuracy_score([1, 2], [1, 1]) == 0.5
    assert sentence_prediction.f1_score([1], [1]) == 1
    assert sklearn.metrics.accuracy_score([1], [1]) == 1


def test_what_fairseq_does_with_scikit_learn_still_works() -> None:
    done = Forked(use_scikit_learn).end()
    assert done.returncode == 0, done.stderr


def test_a_fused_step_without_torchs_wrapper_is_the_same_step() -> None:
    random = np.random.default_rng(0)
    start, gradients = random.standard_normal((2, 5)), random.standard_normal((3, 2, 5))
    ends = []
    for kind, options in ((FusedAdam, {}), (AdamW, {"fused": True})):
        parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
        optimizer = kind([parameter], lr=0.1, weight_decay=0.01, **options)
        for gradient in gradients:
            parameter.grad = torch.tensor(gradient, dtype=torch.float32)
            optimizer.step()
        ends.append(parameter.detach())
    assert torch.equal(*ends) and not torch.allclose(ends[0], torch.tensor(start, dtype=torch.float32))
