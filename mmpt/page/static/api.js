/** Requests to the server's API (/openapi.json). */

let token = "";

/** An error whose message is for the user. */
export class ApiError extends Error {}

/** Take the token from the page's address (/#token=...) and remember it until the tab is closed. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  token = sessionStorage.getItem("token") ?? "";
}

async function send(path, options = {}) {
  if (token) options.headers = { Authorization: `Bearer ${token}` };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new ApiError("The server does not answer: is it still running?");
  }
  if (answer.ok) return answer;
  const content = await answer.json().catch(() => ({}));
  const hint = answer.status === 401 ? " Open the address that the server's log shows." : "";
  throw new ApiError((content.error ?? `The server answered with status ${answer.status}.`) + hint);
}

/**
 * @param {string} path
 * @returns {Promise<Object>} JSON
 */
export async function get(path) {
  return (await send(path)).json();
}

/** A file of the API as a blob, such as a picture. */
export async function getBlob(path) {
  return (await send(path)).blob();
}

/**
 * Send a form.
 * @param {string} path
 * @param {Object<string, string|Blob|(string|Blob)[]>} fields a list becomes a repeated field; null is left out
 * @returns {Promise<Response>}
 */
export async function postForm(path, fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value === null || value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one instanceof Blob) form.append(name, one, one.name ?? "clip.pose");
      else form.append(name, one);
    }
  }
  return send(path, { method: "POST", body: form });
}

/** Send a form; returns JSON. */
export async function post(path, fields) {
  return (await postForm(path, fields)).json();
}
