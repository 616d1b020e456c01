/** Where a clip comes from: a file that is dropped or chosen, or the webcam. */
import { post } from "./api.js";
import { el } from "./dom.js";
import { extractPose, recordWebcam } from "./extract.js";

const POSE = /\.pose$/i;

async function extractOnServer(video) {
  return new File([await post("/api/extract", { video }, "blob")], "video.pose");
}

/**
 * @param {Object} model of /model
 * @param {ReturnType<import("./status.js").status>} state
 * @param {(pose: File) => void} onclip receives a `.pose`; videos become one first
 */
export function clipInput(model, state, onclip) {
  const file = el("input", { type: "file", accept: ".pose,video/*", onchange: () => takeAll(file.files) });
  file.onclick = () => (file.value = ""); // so that the same file can be chosen again, after an error
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
    takeAll(event.dataTransfer.files);
  });

  const [missing] = model.missing_for_video;
  const why = missing && `the server has no ${missing}: scripts/fetch_front_end.py fetches what is missing.`;
  if (missing) {
    camera.hidden = true;
    note.textContent = model.video ? "A video is sent to the server, which computes its landmarks." : `Poses only, no videos: ${why}`;
    file.accept = model.video ? ".pose,video/*" : ".pose";
    if (!model.video) zone.querySelector("strong").textContent = "Drop a .pose here";
  }

  const progress = (say) => (done, total) => say(`Landmarks: ${done} of ${total} frames`);

  function takeAll(files) {
    if (files.length === 1) take(files[0]);
    else if (files.length) state.run("", async () => { throw new Error(`Got ${files.length} files; expected one.`); });
  }

  function take(given) {
    if (POSE.test(given.name)) return onclip(given);
    const read = async (say) => {
      if (!missing) return extractPose({ file: given }, progress(say)).catch((error) => askServer(given, error));
      if (model.video) return extractOnServer(given);
      throw new Error(`${given.name}: expected a .pose. ${why}`);
    };
    state.run("Reading the video", read, onclip);
  }

  /** A video that the browser cannot read goes to the server only if the server and the user want it. */
  function askServer(video, error) {
    if (model.video && confirm(`${error.message} Send the video to the server, which computes its landmarks?`)) return extractOnServer(video);
    throw error;
  }

  function record() {
    const read = async (say) => {
      camera.disabled = true;
      preview.hidden = stop.hidden = false;
      try {
        const frames = await recordWebcam(preview, new Promise((resolve) => (stop.onclick = resolve)));
        stop.hidden = true;
        return await extractPose(frames, progress(say));
      } finally {
        camera.disabled = false;
        preview.hidden = stop.hidden = true;
      }
    };
    state.run("Recording", read, onclip);
  }

  return el("section", { class: "clipinput", "aria-label": "Clip" }, zone, el("div", { class: "row" }, camera, stop), preview, note);
}
