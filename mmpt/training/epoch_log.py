"""Report the epochs of a training run: a progress bar or log lines, and all of them in metrics.jsonl."""

import json
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from mmpt.config.run_folder import METRICS
from mmpt.utils.progress import Bar

log = logging.getLogger("mmpt.epoch")

_MAX_LINES = 12  # of a run, plus the first and the last epoch


class EpochLog:
    """One progress bar on a terminal; elsewhere a log line for at most about a dozen epochs.

    Every validated epoch is appended to `folder`/metrics.jsonl. After a resume an epoch may occur twice: the
    later line counts. epochs: of the whole run, 0 if only updates limit it. Only rank 0 reports.
    """

    def __init__(self, folder: Path, epochs: int):
        self._folder, self._epochs = folder, epochs
        self._every = math.ceil(epochs / _MAX_LINES) if epochs > 2 * _MAX_LINES else 1
        self._rank = int(os.environ.get("RANK", 0))
        self._bar: Any = None
        self._started = time.monotonic()

    def begin(self, epoch: int) -> None:
        """Start the clock of an epoch, counted from 1, and show the bar."""
        self._started = time.monotonic()
        if self._bar is None and self._rank == 0:
            terminal = sys.stderr.isatty()
            self._bar = Bar(total=self._epochs or None, initial=epoch - 1, unit="epoch", disable=not terminal)
            if not terminal and self._every > 1:
                log.info(
                    "one of every %d epochs is logged; all are in %s", self._every, self._folder / METRICS
                )

    def end(self, epoch: int, values: dict[str, float], saved: bool) -> None:
        """Report a validated epoch. values: loss and metrics by name, such as `valid_v2t_R@1`."""
        seconds = time.monotonic() - self._started
        if self._rank:
            return
        self._append({"epoch": epoch, **values, "seconds": round(seconds, 3)})
        shown = f"train loss {values['train_loss']:.4f} | valid loss {values['valid_loss']:.4f}"
        if "valid_v2t_R@1" in values:
            shown += f" | valid V2T R@1 {values['valid_v2t_R@1']:.3f} T2V P@1 {values['valid_t2v_P@1']:.3f}"
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(epoch - self._bar.n)
            if epoch == self._epochs:
                self._bar.close()
        elif epoch % self._every == 0 or epoch in (1, self._epochs):
            line = f"epoch {epoch} | {shown} | {seconds:.1f} s"
            log.info(line if saved else f"{line} | not saved")

    def _append(self, line: dict[str, float]) -> None:
        """Add a line to metrics.jsonl, without the half-written one that a kill or a full disk left."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / METRICS, "a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(json.dumps(line).encode() + b"\n")
