"""Landmarks computed in the browser, of a real video and of a fake webcam, beside those of Python."""

import base64
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mmpt.page import VENDOR, missing_vendor_files
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import HANDS, POSE
from mmpt.pose.reader import read_pose
from tests.page.conftest import FLAGS, Window, chromium
from tests.serving.servers import Server, serving
from tests.waiting import wait_until

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
av = pytest.importorskip("av", reason="the extra `extract` is not installed")

FIRST, FRAMES = 40, 10
WIDTH, HEIGHT = 320, 240
CHROMIUMS = {"update.googleapis.com", "accounts.google.com", "google.com", "www.google.com"}
"""Hosts that Chromium asks for updates and accounts, whatever it shows."""
#: passing a list of numbers takes seconds
BASE64 = """
window.toBase64 = async (file) => {
    const bytes = new Uint8Array(await file.arrayBuffer());
    return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
};
"""
EXTRACT = """async (content) => {
    const { extractPose } = await import("/page/extract.js");
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const pose = await extractPose({ file: new Blob([bytes]) }, () => {});
    return toBase64(pose);
}"""

NOTE_SENT = """
window.sent = [];
const send = window.fetch;
window.fetch = (path, options) => {
    if (options?.body) sent.push([path, options.body.get("clip")]);
    return send(path, options);
};
window.pictures = 0;
const make = window.createImageBitmap;
window.createImageBitmap = (source) => {
    window.pictures += 1;
    return make(source);
};
"""


@pytest.fixture(scope="module", autouse=True)
def vendor() -> Path:
    if missing_vendor_files():
        pytest.skip("MediaPipe for the browser is not there (make front-end)")
    return VENDOR


@pytest.fixture(scope="module")
def videos(shared_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A part of a real video, as MP4 and as the uncompressed video that Chromium takes for a webcam."""
    folder = tmp_path_factory.mktemp("videos")
    with av.open(str(shared_videos / "sign_example.mp4")) as source:
        frames = [*islice(source.decode(video=0), FIRST, FIRST + FRAMES)]
    width, height = frames[0].width, frames[0].height
    pictures = [frame.to_ndarray(format="yuv420p") for frame in frames]
    with av.open(str(folder / "part.mp4"), "w") as target:
        stream = target.add_stream("libx264", rate=24, options={"crf": "6"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        target.mux(stream.encode())
    header = f"YUV4MPEG2 W{width} H{height} F24:1 Ip C420\n".encode()
    (folder / "part.y4m").write_bytes(header + b"".join(b"FRAME\n" + one.tobytes() for one in pictures))
    return folder / "part.mp4", folder / "part.y4m"


@pytest.fixture(scope="module")
def expected(videos: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> PoseClip:
    """Python's landmarks."""
    pytest.importorskip("mediapipe.python.solutions", reason="the legacy Holistic is not installed")
    from mmpt.extractors.holistic_legacy import LegacyReader

    path = tmp_path_factory.mktemp("pose") / "part.pose"
    LegacyReader(refine_face=False).convert(videos[0], path)
    return read_pose(path)


@pytest.fixture(scope="module")
def window(videos: tuple[Path, Path]) -> Iterator[Window]:
    """A window of a browser whose webcam shows the video."""
    with chromium([*FLAGS, f"--use-file-for-fake-video-capture={videos[1]}"]) as started:
        context = started.new_context(permissions=["camera"])
        context.add_init_script(BASE64)
        yield Window(context)


@pytest.fixture(scope="module")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    prompts = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    prompts.write_text("a house\na tree")
    with serving("--model", model_folder, "--prompts", prompts, "--allow-video") as running:
        yield running


def hands(clip: PoseClip) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [T, 2, 21, 2] of both hands, and whether each hand is there [T, 2]."""
    parts = [clip.component(name) for name in HANDS]
    return np.stack([data[..., :2] for data, _ in parts], 1), np.stack([c[:, 0] > 0 for _, c in parts], 1)


def distances(clip: PoseClip, expected: PoseClip) -> np.ndarray:
    """Mean distance of each hand [T, E, 2] in each pair of frames; infinite where one lacks it."""
    (a, in_a), (b, in_b) = hands(clip), hands(expected)
    found = np.linalg.norm(a[:, None] - b[None], axis=-1).mean(axis=-1)
    return np.where(in_a[:, None] & in_b[None], found, np.inf)


def local_only(window: Window, server: Server) -> None:
    """MediaPipe tries to send usage metrics, which the policy stops before a request is made."""
    assert all(url.startswith((server.address, "blob:", "data:")) for url in window.requests)


def test_extract_video_in_the_browser_as_python_does(
    window: Window, server: Server, videos: tuple[Path, Path], expected: PoseClip, tmp_path: Path
) -> None:
    window.page.goto(server.address)
    content = window.page.evaluate(EXTRACT, base64.b64encode(videos[0].read_bytes()).decode())
    (tmp_path / "browser.pose").write_bytes(base64.b64decode(content))
    clip = read_pose(tmp_path / "browser.pose")
    assert len(clip) == len(expected) == FRAMES and clip.fps == pytest.approx(24, rel=1e-3)
    assert clip.width == expected.width and set(clip.points) <= set(expected.points)
    ours, theirs = (it.component(POSE)[0][:, :17, :2] for it in (clip, expected))
    assert np.median(np.linalg.norm(ours - theirs, axis=-1)) < 4
    same = np.diagonal(distances(clip, expected), axis1=0, axis2=1).T
    assert np.median(same[np.isfinite(same)]) < 3 and np.isfinite(same).mean() > 0.8
    local_only(window, server)


def test_extract_webcam_gives_the_landmarks_of_its_video(
    window: Window, server: Server, expected: PoseClip, tmp_path: Path
) -> None:
    page = window.page
    page.add_init_script(NOTE_SENT)
    page.goto(server.address)
    page.get_by_role("button", name="Use the webcam").click()
    page.get_by_role("button", name="Stop recording").wait_for()
    # the button is there before the first picture
    wait_until(lambda: page.evaluate("pictures") >= FRAMES, "pictures of the webcam")
    page.get_by_role("button", name="Stop recording").click()
    page.locator(".ranked .prompt").first.wait_for(timeout=60_000)
    assert window.plays(page.locator("canvas"))
    sent = page.evaluate("Promise.all(sent.map(async ([path, file]) => [path, await toBase64(file)]))")
    assert [path for path, _ in sent] == ["/api/pose", "/api/rank"] and sent[0][1] == sent[1][1]
    (tmp_path / "webcam.pose").write_bytes(base64.b64decode(sent[0][1]))
    clip = read_pose(tmp_path / "webcam.pose")
    nearest = distances(clip, expected).min(axis=1)  # the recording starts anywhere in the loop
    assert np.median(nearest[np.isfinite(nearest)]) < 3 and np.isfinite(nearest).mean() > 0.7
    local_only(window, server)


def test_page_says_where_browsers_allow_the_webcam(window: Window, server: Server) -> None:
    """A page of http:// from another machine has no navigator.mediaDevices."""
    page = window.page
    page.goto(server.address)
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
    page.get_by_role("button", name="Use the webcam").click()
    page.locator(".status.warning").wait_for()
    assert page.locator(".status.warning").inner_text() == (
        "Browsers allow the webcam on https:// and localhost pages only."
    )


@pytest.mark.slow
def test_extract_on_the_server_where_the_browser_cannot(
    window: Window, server: Server, videos: tuple[Path, Path], tmp_path: Path
) -> None:
    """A video that the browser cannot read is sent if the user agrees; without MediaPipe's files any is."""
    page, asked, sent = window.page, [], lambda: server.log.count("POST /api/extract 200")
    with av.open(str(videos[0])) as source, av.open(str(tmp_path / "part.avi"), "w") as target:
        stream = target.add_stream("mjpeg", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for frame in [*source.decode(video=0)][:3]:
            target.mux(stream.encode(frame.reformat(WIDTH, HEIGHT, "yuvj420p")))
        target.mux(stream.encode())
    page.on(
        "dialog",
        lambda dialog: (asked.append(dialog.message), dialog.accept() if asked[1:] else dialog.dismiss()),
    )
    page.goto(server.address)
    page.set_input_files("input[type=file]", tmp_path / "part.avi")
    page.locator(".status.warning").wait_for()
    assert "This browser cannot read the video" in page.locator(".status.warning").inner_text()
    assert sent() == 0
    page.set_input_files("input[type=file]", [])
    page.set_input_files("input[type=file]", tmp_path / "part.avi")
    page.locator(".ranked .prompt").first.wait_for(timeout=60_000)
    assert sent() == 1 and "Send the video to the server" in asked[1]
    missing = server.json("GET", "/model")[1] | {"missing_for_video": ["holistic.task"]}
    page.route("**/model", lambda route: route.fulfill(json=missing))
    page.goto("about:blank")
    page.goto(server.address)
    page.get_by_text("A video is sent to the server, which computes its landmarks.").wait_for()
    page.set_input_files("input[type=file]", videos[0])
    page.locator(".ranked .prompt").first.wait_for(timeout=60_000)
    page.unroute("**/model")
    assert sent() == 2 and len(asked) == 2


@pytest.mark.slow
def test_page_makes_no_foreign_request_in_two_minutes(
    server: Server, videos: tuple[Path, Path], tmp_path: Path
) -> None:
    """MediaPipe sends usage metrics after a minute, and when it ends, where a page lets it."""
    log = tmp_path / "network.json"
    with chromium([*FLAGS, f"--log-net-log={log}"]) as started:
        window = Window(started.new_context())
        page = window.page
        page.goto(server.address)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            page.set_input_files("input[type=file]", videos[0])
            page.locator(".ranked li").first.wait_for(timeout=60_000)
            page.get_by_label("Prompts, one per line").fill(f"a house\na tree {until}")
            page.wait_for_timeout(2000)
    blocked = [line for line in window.errors if "violates the following Content Security Policy" in line]
    assert blocked  # it was tried
    local_only(window, server)
    text = log.read_text(errors="replace")  # of all processes of the browser
    assert server.address in text and set(re.findall(r'"https?://([\w.-]+)', text)) <= CHROMIUMS | {
        "127.0.0.1"
    }
