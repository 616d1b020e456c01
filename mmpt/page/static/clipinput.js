/** Where a clip comes from: a file that is dropped or chosen, or the webcam. */
import { postForm } from "./api.js";
import { el } from "./dom.js";
import { extractPose, recordWebcam } from "./extract.js";

const POSE = /\.pose$/i;

async function extractOnServer(video) {
  return new File([await (await postForm("/api/extract", { video })).blob()], "video.pose");
}

/**
 * @param {Object} model of /model
 * @param {ReturnType<import("./status.js").status>} state
 * @param {(pose: File) => void} onclip receives a `.pose`; videos become one first
 */
export function clipInput(model, state, onclip) {
  const file = el("input", { type: "file", accept: ".pose,video/*", onchange: () => file.files[0] && take(file.files[0]) });
  const zone = el("label", { class: "drop" }, el("strong", {}, "Drop a .pose or a video here"), el("span", {}, "or choose a file"), file);
  const camera = el("button", { type: "button", onclick: () => record() }, "Use the webcam");
  const preview = el("video", { muted: true, playsInline: true, hidden: true, "aria-label": "Webcam" });
  const stop = el("button", { type: "button", class: "primary", hidden: true }, "Stop recording");
  const note = el("p", { class: "note" }, "A video stays on this machine: its landmarks are computed in the browser, and only they are sent.");
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });

  const [missing] = model.missing_for_video;
  const why = missing && `the server has no ${missing}: scripts/fetch_front_end.py fetches what is missing.`;
  if (missing) {
    camera.hidden = true;
    note.textContent = model.video ? "A video is sent to the server, which computes its landmarks." : `Poses only, no videos: ${why}`;
    file.accept = model.video ? ".pose,video/*" : ".pose";
    if (!model.video) zone.querySelector("strong").textContent = "Drop a .pose here";
  }

  const progress = (done, total) => state.say(`Landmarks: ${done} of ${total} frames`);

  async function take(given) {
    if (POSE.test(given.name)) return onclip(given);
    let pose = null;
    await state.run("Reading the video", async () => {
      if (!missing) pose = await extractPose({ file: given }, progress).catch((error) => askServer(given, error));
      else if (model.video) pose = await extractOnServer(given);
      else throw new Error(`${given.name}: expected a .pose. ${why}`);
    });
    if (pose) onclip(pose);
  }

  /** A video that the browser cannot read goes to the server only if the server and the user want it. */
  function askServer(video, error) {
    if (model.video && confirm(`${error.message} Send the video to the server, which computes its landmarks?`)) return extractOnServer(video);
    throw error;
  }

  async function record() {
    let pose = null;
    await state.run("Recording", async () => {
      camera.disabled = true;
      preview.hidden = stop.hidden = false;
      try {
        const frames = await recordWebcam(preview, new Promise((resolve) => (stop.onclick = resolve)));
        stop.hidden = true;
        pose = await extractPose(frames, progress);
      } finally {
        camera.disabled = false;
        preview.hidden = stop.hidden = true;
      }
    });
    if (pose) onclip(pose);
  }

  return el("section", { class: "clipinput", "aria-label": "Clip" }, zone, el("div", { class: "row" }, camera, stop), preview, note);
}
