"""Training without fairseq: what a run starts from, its checks, its options, how it stops.

`prepare` makes a `TrainingPlan` from a task config; mmpt/fairseq_plugin runs the plan.
"""

from mmpt.training.run import TrainingPlan, prepare

__all__ = ["TrainingPlan", "prepare"]
