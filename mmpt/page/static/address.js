/** What is chosen in a view, kept in the page's address as #view?key=value, so that a link shows the same. */

const left = new Map();

function parts() {
  const [view, ...query] = location.hash.slice(1).split("?");
  return { view, query: new URLSearchParams(query.join("?")) };
}

function write(view, query) {
  left.set(view, query.toString());
  history.replaceState(null, "", `#${view}${query.size ? "?" : ""}${query}`);
}

/** The view that the address names. */
export function viewOfAddress() {
  return parts().view;
}

/** The choice of a key in the address; "" if there is none. */
export function chosen(key) {
  return parts().query.get(key) ?? "";
}

/**
 * Write choices into the address; an empty one is removed.
 * @param {Object<string, string>} values
 * @param {boolean} [alone] remove all others
 */
export function choose(values, alone = false) {
  const { view, query } = parts();
  const kept = alone ? new URLSearchParams() : query;
  for (const [key, value] of Object.entries(values)) value ? kept.set(key, value) : kept.delete(key);
  write(view, kept);
}

/**
 * Of a view that was left and is shown again: write its choices into the address, which has none.
 * @returns {boolean} false if the address has other choices, of a link
 */
export function comeBack() {
  const { view, query } = parts();
  const before = left.get(view) ?? "";
  if (query.size && query.toString() !== before) return false;
  write(view, new URLSearchParams(before));
  return true;
}
