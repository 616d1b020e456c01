/** Data: the page that `signclip check` wrote about a table. */
import { get } from "./api.js";
import { el, table } from "./dom.js";
import { status } from "./status.js";

export function dataPage() {
  const state = status();
  const body = el("article", { class: "data" });
  const show = ({ markdown, pictures }) => body.replaceChildren(...blocks(markdown, new Set(pictures)));
  state.run("Reading the check of the table", () => get("/api/data"), show);
  return el("div", {}, state.element, body);
}

/**
 * The parts of Markdown that mmpt/datasets/table_page.py writes: headings, lists, tables, pictures.
 * @param {string} markdown
 * @param {Set<string>} pictures names that the server has
 */
export function blocks(markdown, pictures) {
  return markdown.split(/\n\s*\n/).flatMap((block) => {
    const lines = block.split("\n").filter((line) => line.trim());
    if (!lines.length) return [];
    const heading = /^(#+) (.*)$/.exec(lines[0]);
    if (heading) {
      const level = Math.min(heading[1].length + 1, 6);
      return [el(`h${level}`, {}, plain(heading[2])), ...blocks(lines.slice(1).join("\n"), pictures)];
    }
    if (lines[0].startsWith("|")) return [markdownTable(lines)];
    if (lines[0].startsWith("- ")) return [el("ul", {}, ...lines.map((line) => el("li", {}, plain(line.replace(/^- /, "")))))];
    const picture = /^!\[(.*)\]\((.*)\)$/.exec(lines[0]);
    if (picture && pictures.has(picture[2])) return [image(picture[2], picture[1])];
    return [el("p", {}, plain(lines.join(" ")))];
  });
}

/** Text without the backslashes that escape Markdown. */
function plain(text) {
  return text.replace(/\\([\\|<*`[(:])/g, "$1");
}

function markdownTable(lines) {
  const rows = lines.filter((line) => !/^[|\s:-]+$/.test(line)).map((line) =>
    line
      .replace(/^\|\s?|\s?\|$/g, "")
      .split(/(?<!\\)\s*(?<!\\)\|\s*/)
      .map((cell) => cellContent(cell.trim())),
  );
  return table("Table", rows[0], rows.slice(1));
}

/** A cell as text; drawn signs (`<img alt="FSW" ... src="data:...">`) as their pictures. */
function cellContent(cell) {
  const signs = [...cell.matchAll(/<img alt="([^"<>]*)"[^<>]*src="(data:image\/png;base64,[\w+/=]+)">/g)];
  if (!signs.length) return plain(cell);
  return el("span", {}, ...signs.map(([, alt, src]) => el("img", { alt, title: alt, src })));
}

function image(name, alt) {
  const element = el("img", { alt, class: "picture" });
  get(`/api/data/${encodeURIComponent(name)}`, "blob").then(
    (blob) => (element.src = URL.createObjectURL(blob)),
    (error) => element.replaceWith(el("p", { class: "warning" }, error.message)),
  );
  return element;
}
