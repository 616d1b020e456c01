/** Landmarks of a video, computed in the browser by MediaPipe. */

/** Why videos cannot be read here, or "" if they can. */
export async function canExtract() {
  return "MediaPipe's files are not on this server.";
}
export async function extractPose() {}
export async function recordWebcam() {}
