"""The server under load: 32 clients at once, each sending pose after pose to /api/rank, on this machine.

In turn with it, in a process of its own, the same model is called in a loop: one pose after the other, the
prompts embedded once, one thread (which is faster for one clip). Before that, one client alone, for the
latency. Prints requests/s, the latency of the middle and of the slowest 1 %, errors, and the server's memory
after a warm-up and at the end.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmpt.config import load_config
from mmpt.embedding.embedder import SignCLIP
from mmpt.models import load_tokenizer
from mmpt.models.folder import LoadedModel
from mmpt.processors.fingerspelling import find_lexicon
from mmpt.tasks import Task

AGAINST = {"loop": "the same model called in a loop, one pose at a time"}
_PROMPTS = [f"Fingerspell the letter {letter}." for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
_BOUNDARY = "b0undary"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--model", help="model folder (default: an untrained one of --config)")
    parser.add_argument("--config", default="projects/signclip/fslex_demo.yaml", help="without --model")
    parser.add_argument("--clients", type=int, default=32, help="at once (default 32)")
    parser.add_argument("--seconds", type=float, default=60, help="seconds of load in all (default 60)")
    parser.add_argument("--repeats", type=int, default=4, help="parts of that, in turn with the loop")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, return all numbers."""
    files = sorted(find_lexicon(None).rglob("*.pose"))
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or _untrained(options.config, Path(folder) / "model")
        with _server(model) as (port, pid, first), _loop(model, files) as loop:
            requests = [_request(file) for file in files]
            alone = asyncio.run(_load(port, requests, 1, 3))
            asyncio.run(_load(port, requests, options.clients, 3))
            memory, part = [_memory(pid)], options.seconds / options.repeats
            together, looped, cpu = [], [], []
            for _ in range(options.repeats):
                looped.append(loop(part / 2))
                worked = _processor_seconds(pid)
                together.append(asyncio.run(_load(port, requests, options.clients, part)))
                cpu.append((_processor_seconds(pid) - worked) / together[-1]["requests"])
                memory.append(_memory(pid))
    rates = [some["rate"] for some in together]
    found = {
        "first_answer_s": first,
        "alone_p50_ms": alone["p50"],
        "requests_per_s": statistics.median(rates),
        "loop_clips_per_s": statistics.median(rate for rate, _ in looped),
        "ratio": statistics.median(rate / other for rate, (other, _) in zip(rates, looped)),
        "cpu_ms_per_clip": 1000 * statistics.median(cpu),
        "loop_cpu_ms_per_clip": 1000 * statistics.median(seconds for _, seconds in looped),
        "p50_ms": statistics.median(some["p50"] for some in together),
        "p99_ms": statistics.median(some["p99"] for some in together),
        "requests": sum(some["requests"] for some in together),
        "errors": sum(some["errors"] for some in together),
        "memory_before_mib": memory[0] / 2**20,
        "memory_after_mib": memory[-1] / 2**20,
    }
    for name, value in found.items():
        sys.stdout.write(f"{name:<20} {value:10.2f}\n")
    summary = (
        "serve: {requests_per_s:.0f} clips/s from {0} clients, {ratio:.2f}x the loop, p99 {p99_ms:.0f} ms"
    )
    return {
        **found,
        "rates": rates,
        "loop": looped,
        "memory": memory,
        "summary": summary.format(options.clients, **found),
    }


def _untrained(config_name: str, folder: Path) -> str:
    config = load_config(config_name)
    torch.manual_seed(0)
    tokenizer = load_tokenizer(config.dataset.bert_name)
    parts = LoadedModel(Task(config).build_model(), config.model, config.dataset, tokenizer)
    SignCLIP(parts).save_pretrained(folder)
    return str(folder)


@contextmanager
def _server(model: str) -> Iterator[tuple[int, int, float]]:
    """Port, process id, and seconds until its first answer."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "mmpt", "serve", "--model", model, "--port", "0"]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            port, place = None, 0
            while port is None and process.poll() is None:
                time.sleep(0.02)
                log.seek(place)
                port = re.search(r" at http://127\.0\.0\.1:(\d+)/", log.read())
            if port is None:
                raise RuntimeError("the server did not start")
            asyncio.run(_load(int(port[1]), [_request(next(find_lexicon(None).rglob("*.pose")))], 1, 0))
            yield int(port[1]), process.pid, time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGTERM)


def _request(file: Path) -> bytes:
    """A request for the ranks of the prompts for a pose."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="'
    parts = [f'{head}prompt"\r\n\r\n{prompt}\r\n'.encode() for prompt in _PROMPTS]
    parts += [f'{head}clip"; filename="a.pose"\r\n\r\n'.encode(), file.read_bytes(), b"\r\n"]
    body = b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={_BOUNDARY}"
    lines = (
        f"POST /api/rank HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
    )
    return f"{lines}\r\n\r\n".encode() + body


async def _load(port: int, requests: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Send requests from some clients at once for some seconds (at least one from each)."""
    taken: list[float] = []
    errors: list[str] = []
    numbers = itertools.count()
    until = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            started = time.perf_counter()
            writer.write(requests[next(numbers) % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            answer = await reader.readexactly(int(length[1]) if length else 0)
            taken.append(time.perf_counter() - started)
            if b" 200 " not in head or len(json.loads(answer)["clips"][0]["ranked"]) != 10:
                errors.append(answer.decode())
            if time.perf_counter() > until:
                break
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*[client() for _ in range(clients)])
    rate = len(taken) / (time.perf_counter() - started)
    slow = statistics.quantiles(taken, n=100, method="inclusive") if len(taken) > 1 else taken * 99
    return {
        "rate": rate,
        "p50": 1000 * slow[49],
        "p99": 1000 * slow[98],
        "requests": len(taken),
        "errors": len(errors),
    }


@contextmanager
def _loop(model: str, files: list[Path]) -> Iterator[Any]:
    """A function that calls the model in a loop for some seconds, in another process; its speed."""
    with multiprocessing.get_context("spawn").Pool(1, _start_loop, (model, files)) as pool:
        pool.apply(_clips_per_second, (1.0,))
        yield lambda seconds: pool.apply(_clips_per_second, (seconds,))


def _start_loop(model: str, files: list[Path]) -> None:
    global _model, _files, _texts
    torch.set_num_threads(1)
    _model, _files = SignCLIP.from_pretrained(model), itertools.cycle(files)
    _texts = _model.embed_text(_PROMPTS, normalize=True)


def _clips_per_second(seconds: float) -> tuple[float, float]:
    """Clips per second, and processor seconds of each."""
    started, worked, count = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - started) < seconds:
        scores = _texts @ _model.embed_pose([next(_files)], normalize=True)[0]
        sorted(zip(scores.tolist(), _PROMPTS), reverse=True)
        count += 1
    return count / passed, (time.process_time() - worked) / count


def _processor_seconds(pid: int) -> float:
    """Of a process, in user and system mode, since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
