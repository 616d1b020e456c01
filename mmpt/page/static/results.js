/** The view of an evaluation (mmpt/evaluators/reports/view.py): tables, confusions, clips and their poses. */
import { choose, chosen } from "./address.js";
import { counted, el, form, isolated, select, table, warning } from "./dom.js";
import { confusionMatrix } from "./matrix.js";
import { PosePlayer } from "./player.js";

const SHOWN = 100;

/**
 * Everything about one evaluation.
 * @param {Object} view
 * @returns {HTMLElement}
 */
export function resultsView(view) {
  const matrix = el("div", {});
  const clips = el("div", {});
  const show = (number) => {
    const shown = answersView(view, view.answers[number]);
    matrix.replaceChildren(shown.matrix);
    clips.replaceChildren(...shown.clips);
  };
  const names = view.answers.map(({ name }) => name);
  const choices = names.map((name, number) => [String(number), name]);
  const changed = (value) => {
    choose({ answers: names[value] });
    show(Number(value));
  };
  const choice = choices.length > 1 ? select("Answers of", choices, changed, chosen("answers")).element : null;
  if (names.length) show(Math.max(0, names.indexOf(chosen("answers"))));
  return el(
    "div",
    { class: "results" },
    el("h2", {}, view.title),
    ...[...view.warnings, view.note].filter(Boolean).map(warning),
    choice,
    el("div", { class: "overview" }, el("div", {}, ...view.tables.map(shownTable), origin(view)), matrix),
    clips,
  );
}

function shownTable({ title, header, rows }) {
  return table(title, header, rows);
}

function origin(view) {
  const lines = view.facts.map((line) => el("li", {}, line));
  return el("details", {}, el("summary", {}, "How it was made"), el("ul", {}, ...lines));
}

/** The confusion matrix; and the filters, the clips and the player of one set of answers. */
function answersView(view, answer) {
  const clips = view.clips.map((clip, n) => ({
    ...clip,
    truth: answer.truth[n],
    given: answer.given[n],
    rank: answer.ranks ? answer.ranks[n] : null,
    right: answer.truth[n] === answer.given[n],
  }));
  const filters = clipFilters(clips, answer, () => list.show(filters.passing()));
  const detail = clipDetail(view, answer, clips);
  const unlisted = clips.length < allClips(answer) ? ` of the ${clips.length} that are listed` : "";
  const list = clipList((clip) => describe(answer, clip), detail.show, unlisted);
  list.show(filters.passing());
  const choose = (truth, given) => {
    filters.set(truth, given);
    list.element.scrollIntoView({ block: "nearest" });
  };
  return {
    matrix: confusionMatrix(answer, choose),
    clips: [el("h3", {}, "Clips"), filters.element, el("div", { class: "split" }, list.element, detail.element)],
  };
}

/** The number of clips that were evaluated; a view may list fewer. */
function allClips(answer) {
  return answer.pairs.reduce((sum, [, , count]) => sum + count, 0);
}

function className(answer, number) {
  return number < 0 ? "(not among the classes)" : answer.classes[number];
}

function describe(answer, clip) {
  const truth = isolated(clip.truth < 0 ? clip.text : answer.labels[clip.truth]);
  return clip.right ? `${truth}, correct` : `${truth} → ${isolated(answer.labels[clip.given])}`;
}

/**
 * Selects of class, signer and language, a text field for the id, and whether correct clips are shown.
 * `passing` returns the clips that pass; `set` chooses a pair of classes.
 */
function clipFilters(clips, answer, onchange) {
  const state = { truth: "", given: "", signer: "", language: "", id: chosen("id"), right: chosen("correct") !== "" };
  const boxes = {};
  const changed = () => {
    const texts = Object.entries(boxes).map(([key, box]) => [key, box.value && box.selectedOptions[0].textContent]);
    choose({ ...Object.fromEntries(texts), id: state.id, correct: state.right ? "1" : "" });
    onchange();
  };
  const parts = [];
  const add = (key, label, values) => {
    if (chosen(key) && !values.some(([, text]) => text === chosen(key)))
      parts.push(warning(`No clip of the list has ${label.trim().toLowerCase()} ${isolated(chosen(key))}, as in the address.`));
    if (values.length < 2) return;
    const pick = (value) => {
      state[key] = value;
      changed();
    };
    const made = select(label, [["", "all"], ...values], pick, chosen(key));
    state[key] = made.box.value;
    boxes[key] = made.box;
    parts.push(made.element);
  };
  const classes = (key) =>
    [...new Set(clips.map((clip) => clip[key]))]
      .filter((number) => number >= 0)
      .map((number) => [String(number), answer.classes[number]])
      .sort((a, b) => a[1].localeCompare(b[1]));
  const names = (key) => [...new Set(clips.map((clip) => clip[key]))].sort().map((name) => [name, name || "(unknown)"]);
  add("truth", `Correct ${answer.noun} `, classes("truth"));
  add("given", `Predicted ${answer.noun} `, classes("given"));
  add("signer", "Signer ", names("signer").filter(([name]) => name));
  add("language", "Language ", names("language").filter(([name]) => name));
  const id = el("input", { type: "search", value: state.id, oninput: () => ((state.id = id.value), changed()) });
  const right = el("input", {
    type: "checkbox",
    checked: state.right,
    onchange: () => ((state.right = right.checked), changed()),
  });
  parts.push(el("label", {}, "Id ", id), el("label", { class: "check" }, right, "Show correct clips"));
  const equal = (key, value) => state[key] === "" || state[key] === String(value);
  return {
    element: form({ class: "filters" }, ...parts),
    passing: () =>
      clips.filter(
        (clip) =>
          (state.right || !clip.right) &&
          ["truth", "given", "signer", "language"].every((key) => equal(key, clip[key])) &&
          clip.id.toLowerCase().includes(state.id.toLowerCase()),
      ),
    set: (truth, given) => {
      for (const [key, value] of [["truth", truth], ["given", given]]) {
        state[key] = boxes[key] ? String(value) : "";
        if (boxes[key]) boxes[key].value = state[key];
      }
      if (truth === given) state.right = right.checked = true;
      changed();
    },
  };
}

/**
 * A list of clips as buttons; the up and down keys move through it.
 * @param {(clip: Object) => string} describe
 * @param {(clip: Object|null) => void} onpick
 * @param {string} [of] what follows their number
 */
function clipList(describe, onpick, of = "") {
  const count = el("p", { class: "count", "aria-live": "polite" });
  const items = el("ol", { class: "clips" });
  const more = el("button", { type: "button" });
  const pick = (button, clip) => {
    for (const other of items.querySelectorAll("[aria-pressed=true]")) other.setAttribute("aria-pressed", "false");
    button?.setAttribute("aria-pressed", "true");
    onpick(clip);
  };
  const item = (clip) => {
    const button = el(
      "button",
      { type: "button", "aria-pressed": "false", onclick: () => pick(button, clip) },
      el("span", { class: clip.right ? "right" : "wrong" }, describe(clip)),
      el("small", {}, clip.id),
    );
    return el("li", {}, button);
  };
  items.addEventListener("keydown", (event) => {
    const way = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const next = way && event.target.closest("li")?.[way]?.querySelector("button");
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.click();
  });
  const show = (clips) => {
    let shown = 0;
    const add = () => {
      items.append(...clips.slice(shown, shown + SHOWN).map(item));
      shown = Math.min(shown + SHOWN, clips.length);
      more.textContent = `Show more of ${clips.length}`;
      more.hidden = shown >= clips.length;
    };
    items.replaceChildren();
    count.textContent = counted(clips.length, "clip") + of;
    more.onclick = add;
    add();
    pick(items.querySelector("button"), clips[0] ?? null);
  };
  return { element: el("div", { class: "list" }, count, items, more), show };
}

/** The player of a clip, beside a clip of the predicted class, with the correct and the predicted class. */
function clipDetail(view, answer, clips) {
  const player = new PosePlayer(view.drawing);
  const other = new PosePlayer(view.drawing);
  const facts = el("dl", {});
  const element = el("section", { class: "detail", "aria-label": "Clip" }, facts, el("div", { class: "players" }, player.element, other.element));
  const show = (clip) => {
    element.hidden = !clip;
    if (!clip) return;
    const lines = [
      [`Correct ${answer.noun}`, clip.truth < 0 ? `${clip.text} ${className(answer, -1)}` : className(answer, clip.truth)],
      [`Predicted ${answer.noun}`, className(answer, clip.given)],
      ["Rank of the correct one", clip.rank === null ? "" : clip.rank + (answer.candidates ? ` of ${answer.candidates}` : "")],
      ["Signer", clip.signer],
      ["Language", clip.language],
      ["Clip", clip.id],
    ];
    const pairs = lines.filter(([, value]) => value);
    facts.replaceChildren(...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
    player.show(clip.pose, "This clip");
    const like = clip.right ? null : clips.find((one) => one.pose && one.truth === clip.given && one.right);
    other.element.hidden = !like;
    other.show(like ? like.pose : null, like ? `A clip of the predicted ${answer.noun}` : "");
  };
  return { element, show };
}

/**
 * Two evaluations side by side: their tables, and the clips that both have.
 * @param {Object} first
 * @param {Object} second
 * @param {[string, string]} names
 */
export function compareView(first, second, names) {
  const warnings = [first, second].flatMap((view, n) =>
    [...view.warnings, view.note].filter(Boolean).map((line) => warning(`${isolated(names[n])}: ${line}`)),
  );
  const a = first.answers[0];
  const b = second.answers.find(({ name }) => name === a?.name) ?? second.answers[0];
  return el(
    "div",
    { class: "results" },
    el("h2", {}, `${isolated(names[0])} and ${isolated(names[1])}`),
    ...warnings,
    comparedTable(first, second, names),
    ...(a && b ? comparedClips(first, second, a, b, names) : []),
  );
}

/** The clips that both evaluations list, by which of their answers are right. */
function comparedClips(first, second, a, b, names) {
  const there = new Map(second.clips.map((clip, n) => [clip.id, n]));
  const clips = first.clips.flatMap((clip, n) => {
    const m = there.get(clip.id);
    if (m === undefined) return [];
    const pose = clip.pose ?? second.clips[m].pose;
    const right = [a.truth[n] === a.given[n], b.truth[m] === b.given[m]];
    const given = [className(a, a.given[n]), className(b, b.given[m])];
    const short = [a.labels[a.truth[n]] ?? clip.text, a.labels[a.given[n]], b.labels[b.given[m]]].map(isolated);
    return [{ ...clip, pose, right: right[0] && right[1], both: right, truth: className(a, a.truth[n]), given, short }];
  });
  const player = new PosePlayer(first.drawing);
  const facts = el("dl", {});
  const detail = el("section", { class: "detail", "aria-label": "Clip" }, facts, el("div", { class: "players" }, player.element));
  const list = clipList(({ short }) => `${short[0]}: ${short[1]} / ${short[2]}`, (clip) => {
    detail.hidden = !clip;
    if (!clip) return;
    const lines = [[`Correct ${a.noun}`, clip.truth], [names[0], clip.given[0]], [names[1], clip.given[1]], ["Clip", clip.id]];
    facts.replaceChildren(...lines.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
    player.show(clip.pose, "This clip");
  });
  const groups = [
    [`Only ${isolated(names[1])} is right`, [false, true]],
    [`Only ${isolated(names[0])} is right`, [true, false]],
    ["Both are wrong", [false, false]],
    ["Both are right", [true, true]],
  ].map(([name, both]) => [name, clips.filter((clip) => clip.both.every((right, n) => right === both[n]))]);
  const choices = groups.map(([name, members], n) => [String(n), `${name} (${members.length})`]);
  const choice = select("Clips ", choices, (value) => list.show(groups[Number(value)][1]));
  const shown = Math.max(0, groups.findIndex(([, members]) => members.length));
  choice.box.value = String(shown);
  list.show(groups[shown][1]);
  const answers = [...new Set([a.name, b.name])].join(", ");
  const unlisted = [[first, a], [second, b]].some(([view, answer]) => view.clips.length < allClips(answer));
  return [
    el("p", {}, `${counted(clips.length, "clip")} of both runs; in the list: the right ${a.noun}, and the answers of the runs (${answers}).`),
    unlisted ? warning("Clips that a report does not list are not compared. One or both list only wrong clips, so clips that one run alone ranks right are missing here.") : null,
    choice.element,
    el("div", { class: "split" }, list.element, detail),
  ].filter(Boolean);
}

/** The first tables of two evaluations, row by row; chance once if it is the same. */
function comparedTable(first, second, names) {
  const tables = [first.tables[0], second.tables[0]];
  const rows = tables.map(({ header, rows }) => {
    const key = (row) => (header[1] === "setting" ? `${row[0]} ${row[1]}` : row[0]);
    return new Map(rows.filter((row) => row[0]).map((row) => [key(row), row]));
  });
  const keys = [...new Set(rows.flatMap((of) => [...of.keys()]))];
  const columns = [...new Set(tables.flatMap(({ header }) => header.slice(header[1] === "setting" ? 2 : 1)))];
  const header = [tables[0].header[0]];
  const lines = keys.map((key) => [key]);
  for (const name of columns) {
    const values = tables.map((table, n) => keys.map((key) => rows[n].get(key)?.[table.header.indexOf(name)] ?? "-"));
    const once = name === "chance" && keys.every((_, n) => values[0][n] === values[1][n]);
    header.push(...(once ? [name] : names.map((run) => `${name}, ${isolated(run)}`)));
    for (const of of once ? values.slice(1) : values) lines.forEach((line, n) => line.push(of[n]));
  }
  return table(tables[0].title, header, lines);
}
