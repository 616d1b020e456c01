/** A confusion matrix whose cells choose the clips. */
import { counted, el } from "./dom.js";

const MOST = 40;

/**
 * The matrix of the classes (of those with most errors if there are many).
 * @param {Object} answer of a view
 * @param {(truth: number, given: number) => void} onpick
 */
export function confusionMatrix(answer, onpick) {
  const pairs = answer.pairs.filter(([truth]) => truth >= 0);
  const numbers = shownClasses(pairs);
  const place = new Map(numbers.map((number, n) => [number, n]));
  const most = pairs[0]?.[2]; // the most frequent first
  const cells = numbers.map(() => []);
  for (const [truth, given, count] of pairs) {
    if (place.has(truth) && place.has(given)) cells[place.get(truth)][place.get(given)] = count;
  }
  const heads = numbers.map((number) => el("th", { scope: "col", title: answer.classes[number] }, el("span", {}, answer.labels[number])));
  const rows = numbers.map((truth, r) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", title: answer.classes[truth] }, answer.labels[truth]),
      ...numbers.map((given, c) => cell(answer, truth, given, cells[r][c], most, onpick)),
    ),
  );
  const grid = el("table", { class: "matrix" }, el("thead", {}, el("tr", {}, el("td", {}), ...heads)), el("tbody", {}, ...rows));
  grid.addEventListener("keydown", moveInMatrix);
  const first = grid.querySelector("button");
  if (first) first.tabIndex = 0;
  const all = new Set(pairs.flatMap(([truth, given]) => [truth, given])).size;
  const note = all > numbers.length ? ` The ${numbers.length} of ${all} with most errors.` : "";
  return el(
    "section",
    {},
    el("h3", {}, "Confusions"),
    el("p", {}, `Rows: the correct ${answer.noun}; columns: the predicted one. Click on a number to see its clips below.${note}`),
    el("div", { class: "scroll", role: "region", "aria-label": "Confusion matrix" }, grid),
  );
}

/** The class numbers to show, in order. */
function shownClasses(pairs) {
  const errors = new Map();
  for (const [truth, given, count] of pairs) {
    for (const number of [truth, given]) errors.set(number, (errors.get(number) ?? 0) + (truth === given ? 0 : count));
  }
  const worst = [...errors].sort((a, b) => b[1] - a[1]).slice(0, MOST);
  return worst.map(([number]) => number).sort((a, b) => a - b);
}

function cell(answer, truth, given, count, most, onpick) {
  if (!count) return el("td", { class: truth === given ? "diagonal" : null });
  const name = `${answer.labels[truth]} taken for ${answer.labels[given]}: ${counted(count, "clip")}`;
  const button = el("button", { type: "button", tabIndex: -1, title: name, "aria-label": name, onclick: () => onpick(truth, given) }, String(count));
  button.style.setProperty("--share", String(0.25 + (0.75 * count) / most));
  return el("td", { class: truth === given ? "diagonal" : "error" }, button);
}

/** Arrow keys move to the next cell with a number. */
function moveInMatrix(event) {
  const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [0, 0];
  if (!down && !right) return;
  event.preventDefault();
  const rows = [...event.currentTarget.tBodies[0].rows];
  const at = event.target.closest("td");
  let [r, c] = [rows.indexOf(at.parentElement) + down, at.cellIndex + right];
  while (rows[r]?.cells[c]) {
    const next = rows[r].cells[c].querySelector("button");
    if (next) {
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      return next.focus();
    }
    [r, c] = [r + down, c + right];
  }
}
