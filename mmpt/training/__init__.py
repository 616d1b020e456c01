"""Training without fairseq: checks and options of a run, what it resumes from, how it stops.

`prepare` makes a `TrainingPlan` from a task config; mmpt/fairseq_plugin runs the plan.
"""

from mmpt.training.run import TrainingPlan, prepare

__all__ = ["TrainingPlan", "prepare"]
