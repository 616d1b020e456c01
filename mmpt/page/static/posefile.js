/** Writes `.pose` files (pose-format 0.2) of MediaPipe Holistic's landmarks. */

const SIDES = ["LEFT", "RIGHT"];
const LIMBS = ["SHOULDER", "ELBOW", "WRIST", "PINKY", "INDEX", "THUMB", "HIP", "KNEE", "ANKLE", "HEEL", "FOOT_INDEX"];
const POSE_POINTS = [
  "NOSE",
  ...SIDES.flatMap((side) => ["INNER", "", "OUTER"].map((part) => `${side}_EYE${part && "_"}${part}`)),
  ...SIDES.map((side) => `${side}_EAR`),
  ...SIDES.map((side) => `MOUTH_${side}`),
  ...LIMBS.flatMap((limb) => SIDES.map((side) => `${side}_${limb}`)),
];
const FINGERS = ["INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY"];
const HAND_POINTS = [
  "WRIST",
  ...["CMC", "MCP", "IP", "TIP"].map((joint) => `THUMB_${joint}`),
  ...FINGERS.flatMap((finger) => ["MCP", "PIP", "DIP", "TIP"].map((joint) => `${finger}_${joint}`)),
];
const FACE_POINTS = Array.from({ length: 468 }, (_, n) => String(n)); // without the irises

/** Component, names of its points, and its key in a result of HolisticLandmarker. */
const COMPONENTS = [
  ["POSE_LANDMARKS", POSE_POINTS, "poseLandmarks"],
  ["FACE_LANDMARKS", FACE_POINTS, "faceLandmarks"],
  ["LEFT_HAND_LANDMARKS", HAND_POINTS, "leftHandLandmarks"],
  ["RIGHT_HAND_LANDMARKS", HAND_POINTS, "rightHandLandmarks"],
];
const POINTS = COMPONENTS.reduce((sum, [, names]) => sum + names.length, 0);

/**
 * The coordinates and confidences of one frame: pixels for x and y; a part that was not found is 0.
 * @param {Object} result of HolisticLandmarker
 * @returns {{data: Float32Array, confidence: Float32Array}} [points * 3] and [points]
 */
export function frameOf(result, width, height) {
  const data = new Float32Array(POINTS * 3);
  const confidence = new Float32Array(POINTS);
  let start = 0;
  for (const [name, names, key] of COMPONENTS) {
    const found = result[key][0] ?? [];
    names.slice(0, found.length).forEach((_, n) => {
      const { x, y, z, visibility } = found[n];
      data.set([x * width, y * height, z], 3 * (start + n));
      confidence[start + n] = name === "POSE_LANDMARKS" ? visibility : 1;
    });
    start += names.length;
  }
  return { data, confidence };
}

/**
 * @param {ReturnType<typeof frameOf>[]} frames
 * @param {{width: number, height: number, fps: number}} video
 * @returns {Uint8Array[]} the parts of the file
 */
export function poseFile(frames, { width, height, fps }) {
  const bytes = [];
  const text = new TextEncoder();
  const number = (kind, value) => {
    const view = new DataView(new ArrayBuffer({ Uint16: 2, Uint32: 4, Float32: 4 }[kind]));
    view[`set${kind}`](0, value, true);
    bytes.push(...new Uint8Array(view.buffer));
  };
  const string = (value) => {
    number("Uint16", value.length);
    bytes.push(...text.encode(value));
  };
  number("Float32", 0.2);
  for (const value of [width, height, 0, COMPONENTS.length]) number("Uint16", value);
  for (const [name, names] of COMPONENTS) {
    string(name);
    string("XYZC");
    for (const value of [names.length, 0, 0]) number("Uint16", value); // points, limbs, colours
    names.forEach(string);
  }
  number("Float32", fps);
  number("Uint32", frames.length);
  number("Uint16", 1); // people
  const floats = (key) => frames.map((frame) => new Uint8Array(frame[key].buffer)); // little-endian everywhere that browsers run
  return [Uint8Array.from(bytes), ...floats("data"), ...floats("confidence")];
}
