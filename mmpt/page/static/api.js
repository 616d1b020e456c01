/** Requests to the server's API (/openapi.json). */

let token = "";

/** An error whose message is for the user. */
export class ApiError extends Error {}

/**
 * Take the token from the page's address (/#token=...) and remember it until the tab is closed.
 * @returns {boolean} whether the address has one
 */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  token = sessionStorage.getItem("token") ?? "";
  return given !== null;
}

/** The content of an answer: "json" or "blob". */
async function send(path, kind, options = {}) {
  if (token) options.headers = { Authorization: `Bearer ${token}` };
  let answer, content;
  try {
    answer = await fetch(path, options);
    content = await (answer.ok ? answer[kind]() : answer.json().catch(() => ({})));
  } catch {
    throw new ApiError("The server does not answer, or not to the end: is it still running?");
  }
  if (answer.ok) return content;
  const hint = answer.status === 401 ? " Open the address that the server's log shows." : "";
  throw new ApiError((content.error ?? `The server answered with status ${answer.status}.`) + hint);
}

/**
 * @param {string} path
 * @param {"json"|"blob"} kind of the answer; a blob is a file, such as a picture
 */
export function get(path, kind = "json") {
  return send(path, kind);
}

/**
 * Send a form.
 * @param {string} path
 * @param {Object<string, string|Blob|(string|Blob)[]>} fields a list becomes a repeated field; null is left out
 * @param {"json"|"blob"} kind of the answer
 */
export async function post(path, fields, kind = "json") {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value === null || value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one instanceof Blob) form.append(name, one, one.name ?? "clip.pose");
      else form.append(name, one);
    }
  }
  return send(path, kind, { method: "POST", body: form });
}
