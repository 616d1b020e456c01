/** Landmarks of a video, computed in the browser by MediaPipe; the video is not sent anywhere. */
import { frameOf, poseFile } from "./posefile.js";

const FOLDER = "/page/vendor";
const MOST_FRAMES = 600;
const SECONDS = 10;

/**
 * The pose of a video.
 * @param {{file: Blob}|{pictures: ImageBitmap[], fps: number}} source
 * @param {(done: number, total: number) => void} progress
 * @returns {Promise<File>} a `.pose`
 */
export async function extractPose(source, progress) {
  const video = source.file ? await openVideo(source.file) : pictures(source);
  const landmarker = await createLandmarker();
  try {
    const frames = [];
    for (let n = 0; n < video.frames; n++) {
      progress(n, video.frames);
      // as mmpt/extractors/holistic_tasks.py: every video counts as one of 30 frames per second, from frame 1
      const result = landmarker.detectForVideo(await video.picture(n), Math.round(((n + 1) * 1000) / 30));
      frames.push(frameOf(result, video.width, video.height));
      await new Promise((resolve) => setTimeout(resolve)); // lets the page answer
    }
    const found = frames.some(({ confidence }) => confidence.some(Boolean));
    if (!found) throw new Error("No person is seen in any frame of the video.");
    return new File(poseFile(frames, video), "video.pose");
  } finally {
    landmarker.close();
    video.close();
  }
}

async function createLandmarker() {
  const { FilesetResolver, HolisticLandmarker } = await import(`${FOLDER}/vision_bundle.mjs`);
  const wasm = await FilesetResolver.forVisionTasks(FOLDER);
  return HolisticLandmarker.createFromOptions(wasm, {
    baseOptions: { modelAssetPath: `${FOLDER}/holistic.task`, delegate: "CPU" },
    runningMode: "VIDEO",
    minPoseSuppressionThreshold: 0.3,
    minFaceSuppressionThreshold: 0.3,
  });
}

/** Recorded pictures as a video of openVideo. */
function pictures({ pictures, fps }) {
  if (pictures.length < 2) throw new Error("The recording has no frames: record for a second or more.");
  return {
    frames: pictures.length,
    fps,
    width: pictures[0].width,
    height: pictures[0].height,
    picture: async (n) => pictures[n],
    close: () => pictures.forEach((picture) => picture.close()),
  };
}

/**
 * A video file: its frames, one after the other. Throws if the browser cannot read it.
 * @param {Blob} file
 */
async function openVideo(file) {
  const element = document.createElement("video");
  element.muted = true;
  element.src = URL.createObjectURL(file);
  await happens(element, "loadeddata");
  const fps = await frameRate(element);
  const frames = Math.max(1, Math.round(element.duration * fps));
  if (frames > MOST_FRAMES) throw new Error(`The video has ${frames} frames; ${MOST_FRAMES} are read at most. Cut it.`);
  return {
    frames,
    fps,
    width: element.videoWidth,
    height: element.videoHeight,
    picture: async (n) => {
      const sought = happens(element, "seeked");
      element.currentTime = Math.min((n + 0.5) / fps, element.duration);
      await sought;
      return element;
    },
    close: () => URL.revokeObjectURL(element.src),
  };
}

/** Resolves at an event of a video; rejects if the video cannot be read. */
function happens(element, event) {
  return new Promise((resolve, reject) => {
    element.addEventListener(event, resolve, { once: true });
    const failed = () => reject(new Error("This browser cannot read the video: try an MP4 (H.264) or WebM."));
    element.addEventListener("error", failed, { once: true });
  });
}

/** Frames per second, from the times of the first frames; 25 where the browser does not tell them. */
async function frameRate(element) {
  if (!element.requestVideoFrameCallback) return 25;
  const times = [];
  const ended = happens(element, "ended");
  const seen = new Promise((resolve) => {
    const note = (_, { mediaTime }) => {
      times.push(mediaTime);
      if (times.length < 12) element.requestVideoFrameCallback(note);
      else resolve();
    };
    element.requestVideoFrameCallback(note);
  });
  element.playbackRate = 0.5; // so that no frame is left out
  await element.play();
  await Promise.race([seen, ended]);
  element.pause();
  return rateOf(times);
}

/** Frames per second from times in seconds, of which the browser may have left some out. */
export function rateOf(times) {
  const steps = times.slice(1).map((time, n) => time - times[n]).filter((step) => step > 0).sort((a, b) => a - b);
  if (!steps.length) return 25;
  const whole = steps.filter((step) => step < 1.5 * steps[Math.floor(steps.length / 4)]);
  return whole.length / whole.reduce((sum, step) => sum + step, 0);
}

/**
 * Record the webcam until `stopped`, or for ten seconds.
 * @param {HTMLVideoElement} preview
 * @param {Promise} stopped
 * @returns {Promise<{pictures: ImageBitmap[], fps: number}>}
 */
export async function recordWebcam(preview, stopped) {
  if (!navigator.mediaDevices) throw new Error("Browsers allow the webcam on https:// and localhost pages only.");
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, frameRate: 30 } }).catch((error) => {
    throw new Error(`The webcam cannot be used (${error.message}).`);
  });
  const taken = [];
  const times = [];
  let recording = true;
  try {
    preview.srcObject = stream;
    await preview.play();
    const note = (_, { mediaTime }) => {
      if (!recording) return;
      times.push(mediaTime);
      taken.push(createImageBitmap(preview));
      preview.requestVideoFrameCallback(note);
    };
    preview.requestVideoFrameCallback(note);
    await Promise.race([stopped, new Promise((resolve) => setTimeout(resolve, SECONDS * 1000))]);
  } finally {
    recording = false;
    stream.getTracks().forEach((track) => track.stop());
    preview.srcObject = null;
  }
  const length = times.at(-1) - times[0];
  return { pictures: await Promise.all(taken), fps: length > 0 ? (times.length - 1) / length : 25 };
}
