"""The clips behind the ids of an index: where their poses are."""

import logging
from collections.abc import Iterable
from pathlib import Path

from mmpt.config import load_config
from mmpt.embedding.clip_loader import ClipJob, folder_jobs, table_jobs
from mmpt.pose.clip import PoseClip
from mmpt.pose.reader import read_pose
from mmpt.processors.table_file import SPLITS, is_table, read_table
from mmpt.tasks import Task
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

SUFFIX = ".pose"


class Clips:
    """Finds the pose of a clip by its id.

    sources: folders of poses (an id is the path in it, without the suffix), tables, and task configs. If two
    have the same id, the first is taken. Raises UserError for a source that cannot be read.
    """

    def __init__(self, sources: Iterable[str] = ()):
        self.prompts: list[str] = []
        """The prompts of the task configs, each once."""
        self._jobs: dict[str, ClipJob] = {}
        for source in sources:
            for job in self._read(source):
                self._jobs.setdefault(job.id, job)

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, name: str) -> bool:
        return name in self._jobs

    def pose(self, name: str) -> PoseClip:
        """The landmarks of a clip, unchanged from its file. Raises KeyError, and UserError without paths."""
        job = self._jobs[name]
        try:
            clip = read_pose(job.path)
        except UserError as error:
            log.warning("%s", error)
            raise UserError(f"the pose of {name} cannot be read: the log says why.") from None
        return clip if job.span is None else clip.frames(job.span.frames(len(clip), clip.fps))

    def _read(self, source: str) -> Iterable[ClipJob]:
        path = Path(source)
        if path.is_dir():
            return folder_jobs(path, SUFFIX, path / "none")
        if is_table(path):
            table = read_table(path)
            return table_jobs(table, table.rows, SUFFIX)
        task = Task(load_config(source))
        examples = [example for split in SPLITS for example in task.examples(split)]
        self.prompts = list(dict.fromkeys([*self.prompts, *(example.text for example in examples)]))
        return [ClipJob(e.video_id, str(e.path), str(e.path), e.span, e.mirror) for e in examples]
