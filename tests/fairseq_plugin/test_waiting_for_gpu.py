"""How often the CPU waits for a GPU in an update, counted on a fake GPU (tests/fake_gpu.py)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import tasks, utils

from mmpt.fairseq_plugin.options import parse_fairseq_config
from mmpt.fairseq_plugin.trainer import MMTrainer
from mmpt.training.run import active, prepare
from tests.fake_gpu import GPU, FakeGPU, OnGPU, move_to_gpu, pinned_batch

DEMO = [
    *("model.ensemble_size=2", "model.video_hidden_size=32", "model.multimodal_projection=l2_norm"),
    *("model.freeze_text=true", "dataset.batch_sampler=random", "dataset.clip_frames=10"),
    *("loss.mixup=0.2", "loss.label_aware=true", "loss.similarity=cosine", "loss.temperature=0.07"),
    *("loss.learnable_temperature=true", "loss.label_smoothing=0.1", "fairseq.ema.store_ema=true"),
    "fairseq.optimization.weight_decay=0.05",
]
"""What the demo has and tiny.yaml has not (configs/small_data.yaml, small_tower.yaml, ensemble.yaml)."""


def updates_on_gpu(config: Path, overrides: list[str], updates: int = 2) -> tuple[list[str], dict[str, Any]]:
    """What the CPU waits for in the last of some updates of the same batch, and what that update logs."""
    import mmpt.fairseq_plugin  # noqa: F401  registers the task

    plan = prepare(str(config), overrides)
    settings = parse_fairseq_config(plan.argv, plan.config)
    with active(plan):
        utils.set_torch_seed(settings.common.seed)
        task = tasks.setup_task(settings.task)
        model, criterion = task.build_model(settings.model), task.build_criterion(settings.criterion)
        task.load_dataset("train")
        trainer = MMTrainer(settings, task, model, criterion)
        data = task.dataset("train")
        sample = pinned_batch(data.collater(data.__getitems__(data.batches(4)[0])))
        with FakeGPU() as gpu:
            move_to_gpu(trainer._model)
            move_to_gpu(trainer._criterion)
            assert trainer.optimizer is not None  # made before fairseq asks for the name of the GPU
            trainer.cuda, trainer.device = True, GPU
            for _ in range(updates):
                gpu.waits.clear()
                logged = trainer.train_step([sample])
        assert all(isinstance(p, OnGPU) for p in model.parameters())
    return gpu.waits, logged


@pytest.fixture(autouse=True)
def gpu_of_fairseq(monkeypatch: pytest.MonkeyPatch) -> None:
    def move(sample: Any) -> Any:
        return utils.apply_to_sample(lambda t: t.to(device=GPU, non_blocking=True), sample)

    monkeypatch.setattr(utils, "move_to_cuda", move)


@pytest.mark.parametrize("options", [[], DEMO], ids=["trained towers", "demo"])
def test_an_update_waits_once_for_the_loss_and_the_norm_of_the_gradients(tiny_yaml, options):
    waits, logged = updates_on_gpu(tiny_yaml, options)
    assert len(waits) == 1, "\n".join(waits)
    assert waits[0].startswith("tolist: non_finite.py") and logged["loss"] > 0


def test_the_fake_gpu_counts():
    """Each operation that lets the CPU wait is counted, and no other."""
    with FakeGPU() as gpu:
        numbers = pinned_batch(torch.arange(6.0)).to(GPU, non_blocking=True)
        index = torch.arange(3, device=numbers.device)
        kept = numbers > 2
        (numbers[index] + numbers.masked_fill(kept, 0)[:3]).repeat_interleave(index, output_size=3)
        torch.nonzero_static(kept, size=3)
        assert gpu.waits == [] and numbers.device.type == index.device.type == "cuda"
        for waiting in (
            *(lambda: numbers[kept], lambda: kept.nonzero(), lambda: numbers.sum().item()),
            *(lambda: bool(kept.any()), lambda: numbers.tolist(), lambda: numbers.cpu()),
            *(lambda: torch.arange(6.0).to(GPU, non_blocking=True), lambda: torch.tensor([1], device=GPU)),
            *(
                lambda: numbers.unique(),
                lambda: numbers[torch.arange(3)],
                lambda: index.repeat_interleave(index),
            ),
        ):
            gpu.waits.clear()
            waiting()
            assert len(gpu.waits) == 1
        with pytest.raises(RuntimeError, match="tensors of the GPU, and of the CPU"):
            numbers + torch.arange(6)
