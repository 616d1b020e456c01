/** Decodes drawn poses (mmpt/pose/drawn.py) and plays them on a canvas. */
import { el } from "./dom.js";

/**
 * @typedef {{frames: number, fps: number, width: number, height: number, data: string}} DrawnPose
 * @typedef {{points: number, missing: number, parts: {part: string, chains: number[][]}[]}} Drawing
 */

/**
 * The coordinates of a pose.
 * @param {DrawnPose} pose
 * @returns {Promise<Int16Array>} [frames * points * 2]
 */
export async function decodePose(pose, points) {
  const bytes = Uint8Array.from(atob(pose.data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const view = new DataView(await new Response(stream).arrayBuffer());
  const values = new Int16Array(pose.frames * points * 2);
  const width = points * 2;
  for (let i = 0; i < values.length; i++) {
    const step = view.getInt16(2 * i, true);
    values[i] = i < width ? step : values[i - width] + step; // Int16Array wraps, as the encoder does
  }
  return values;
}

/** A canvas with a pose, a play button and a slider of the frames. */
export class PosePlayer {
  /**
   * @param {Drawing} drawing
   * @param {string} caption
   */
  constructor(drawing, caption = "") {
    this.drawing = drawing;
    this.frame = 0;
    this.playing = false;
    this.canvas = el("canvas", { role: "img", width: 480, height: 480 });
    this.button = el("button", { type: "button", class: "play", onclick: () => this.toggle() }, "Play");
    this.slider = el("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Frame" });
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    this.caption = el("figcaption", {}, caption);
    const controls = el("div", { class: "controls" }, this.button, this.slider);
    this.element = el("figure", { class: "player" }, this.caption, this.canvas, controls);
    const colours = matchMedia("(prefers-color-scheme: dark)");
    colours.addEventListener("change", () => this.values && this.draw());
  }

  /**
   * Show a pose, and play it unless the reader prefers less motion.
   * @param {DrawnPose|null} pose null: there is none
   */
  async show(pose, caption = this.caption.textContent) {
    this.pause();
    this.caption.textContent = caption;
    this.canvas.setAttribute("aria-label", pose ? `Pose: ${caption}` : `No pose: ${caption}`);
    this.wanted = pose;
    this.values = null;
    this.element.classList.toggle("empty", !pose);
    if (!pose) return this.clear();
    const values = await decodePose(pose, this.drawing.points).catch(() => null);
    if (this.wanted !== pose) return; // another was asked for meanwhile
    if (!values) return this.show(null, `${caption}: this browser cannot read its pose.`);
    this.pose = pose;
    this.values = values;
    this.canvas.width = pose.width * 0.6;
    this.canvas.height = pose.height * 0.6;
    this.slider.max = pose.frames - 1;
    this.seek(0);
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.play();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (!this.values || this.playing) return;
    this.playing = true;
    this.button.textContent = "Pause";
    let before = null;
    let due = 0;
    const tick = (now) => {
      if (!this.playing || !this.values) return;
      if (!this.canvas.isConnected) return this.pause();
      due += before === null ? 0 : ((now - before) * this.pose.fps) / 1000;
      before = now;
      const frames = Math.floor(due);
      due -= frames;
      if (frames) this.seek((this.frame + frames) % this.pose.frames);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  pause() {
    this.playing = false;
    this.button.textContent = "Play";
  }

  /** @param {number} frame */
  seek(frame) {
    this.frame = frame;
    this.slider.value = frame;
    if (this.values) this.draw();
  }

  clear() {
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  draw() {
    this.clear();
    const context = this.canvas.getContext("2d");
    const scale = this.canvas.width / this.pose.width;
    const start = this.frame * this.drawing.points * 2;
    const style = getComputedStyle(this.canvas);
    context.lineCap = context.lineJoin = "round";
    for (const { part, chains } of this.drawing.parts) {
      context.strokeStyle = style.getPropertyValue(`--pose-${part}`) || "#888";
      context.lineWidth = part === "face" ? 1.5 : 4;
      context.beginPath();
      for (const chain of chains) this.trace(context, chain, start, scale);
      context.stroke();
    }
  }

  /** Add the line through the points that are there. */
  trace(context, chain, start, scale) {
    let connected = false;
    for (const point of chain) {
      const x = this.values[start + 2 * point];
      const y = this.values[start + 2 * point + 1];
      if (x === this.drawing.missing) connected = false;
      else if (connected) context.lineTo(x * scale, y * scale);
      else context.moveTo(x * scale, y * scale);
      connected = x !== this.drawing.missing;
    }
  }
}
