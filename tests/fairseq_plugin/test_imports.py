"""What training does not import."""

import numpy as np
import torch
from torch.optim import AdamW

from mmpt.fairseq_plugin.optimizer import FusedAdam
from tests.commands import run_code

#: in a process that has imported the slow modules, which are hidden until training has run
CODE = """
import sys
import scipy
slow = ("sklearn", "scipy.stats", "torch._dynamo", "sympy", "transformers")
found = [name for name in sys.modules if f"{name}.".startswith(tuple(f"{one}." for one in slow))]
hidden = {name: sys.modules.pop(name) for name in found}
vars(scipy).pop("stats", None)

from mmpt.fairseq_plugin.optimizer import FusedAdam
import torch
parameter = torch.nn.Parameter(torch.ones(2))
optimizer = FusedAdam([parameter], lr=1e-3)
parameter.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
assert not {*slow} & {*sys.modules}, {*slow} & {*sys.modules}

sys.modules.update(hidden)
from fairseq.criterions import sentence_prediction
from fairseq.tasks import audio_classification
assert audio_classification.sklearn_metrics.accuracy_score([1, 2], [1, 1]) == 0.5
assert sentence_prediction.f1_score([1], [1]) == 1
import sklearn.metrics
assert sklearn.metrics.accuracy_score([1], [1]) == 1
"""


def test_training_imports_neither_scikit_learn_nor_torch_compile_until_they_are_used() -> None:
    """Each takes seconds. fairseq's functions that need scikit-learn still work."""
    done = run_code(CODE)
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
