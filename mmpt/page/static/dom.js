/** Helpers to build elements. Text is always set as text, so that no name from a file becomes markup. */

/**
 * Create an element.
 * @param {string} tag
 * @param {Object<string, *>} [properties] DOM properties; names with a dash and `class` become attributes;
 *   null and undefined are left out
 * @param {...(Node|string|null)} children
 * @returns {HTMLElement}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name.includes("-") || name === "class") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/**
 * A form whose content is not sent. Chrome sends hashes of the names of a form's fields to a server of Google, unless the
 * form is for searching, which it sees from the action.
 * @param {Object<string, *>} properties onsubmit is called without an event
 * @param {...(Node|string|null)} children
 */
export function form({ onsubmit, ...properties }, ...children) {
  const submitted = (event) => {
    event.preventDefault();
    onsubmit?.();
  };
  return el("form", { ...properties, action: "/search", onsubmit: submitted }, ...children);
}

/**
 * A table that scrolls inside its own frame where the window is narrow.
 * @param {string} caption
 * @param {string[]} header
 * @param {string[][]} rows the first cell of each is its heading
 */
export function table(caption, header, rows) {
  const heads = header.map((name) => el("th", { scope: "col" }, name));
  const lines = rows.map((cells) => {
    const rest = cells.slice(1).map((cell) => el("td", {}, cell));
    return el("tr", {}, el("th", { scope: "row" }, cells[0]), ...rest);
  });
  return el(
    "div",
    { class: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, ...heads)),
      el("tbody", {}, ...lines),
    ),
  );
}

/**
 * A labelled select.
 * @param {string} label
 * @param {[string, string][]} options [value, text]
 * @param {(value: string) => void} onchange
 * @param {string} [text] of the option that is selected at first, if there is one
 */
export function select(label, options, onchange, text = "") {
  const choices = options.map(([value, name]) => el("option", { value, selected: name === text }, name));
  const box = el("select", { onchange: () => onchange(box.value) }, ...choices);
  return { element: el("label", {}, label, box), box };
}

/** A line that warns of something. */
export function warning(line) {
  return el("p", { class: "warning", role: "note" }, line);
}

/** A text within another one: right-to-left text does not change the order of what surrounds it. */
export function isolated(text) {
  return `\u2068${text}\u2069`;
}

/** A number with its noun: 1 clip, 2 clips. */
export function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
}
