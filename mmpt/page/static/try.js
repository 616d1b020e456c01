/** Try: a clip is ranked among prompts that can be edited. */
import { post } from "./api.js";
import { clipInput } from "./clipinput.js";
import { el, form } from "./dom.js";
import { PosePlayer } from "./player.js";
import { status } from "./status.js";

const SHOWN = 10;

/** @param {Object} model of /model */
export function tryPage(model) {
  const state = status();
  const player = new PosePlayer(model.drawing);
  player.element.hidden = true;
  const prompts = el("textarea", { rows: 12, spellcheck: false, value: model.prompts.join("\n"), onchange: () => rank() });
  const mirror = el("input", { type: "checkbox", onchange: () => rank() });
  const ranked = el("ol", { class: "ranked" });
  const button = el("button", { type: "button", class: "primary", disabled: true, onclick: () => rank() }, "Rank the prompts");
  let clip = null;

  async function take(pose) {
    clip = pose;
    button.disabled = false;
    ranked.replaceChildren();
    await state.run("Reading the pose", async () => {
      player.element.hidden = true;
      const drawn = await post("/api/pose", { clip: pose }).catch((error) => {
        throw new Error(`${pose.name}: ${error.message}`);
      });
      player.element.hidden = false;
      await player.show(drawn, pose.name);
    });
    if (!player.element.hidden) await rank();
  }

  async function rank() {
    if (!clip) return;
    const given = prompts.value.split("\n").map((line) => line.trim()).filter(Boolean);
    await state.run("Ranking", async () => {
      if (!given.length) throw new Error("Write at least one prompt; one prompt per line.");
      const fields = { clip, prompt: given, top: String(SHOWN), mirror: mirror.checked ? "true" : null };
      const answer = await post("/api/rank", fields);
      showRanked(ranked, answer);
    });
  }

  return el(
    "div",
    { class: "try" },
    el("h2", { class: "hidden" }, "Try"),
    el("div", {}, clipInput(model, state, take), state.element, player.element),
    form(
      { "aria-label": "Prompts" },
      el("h3", {}, "Ranked prompts"),
      ranked,
      el("label", { class: "wide" }, "Prompts, one per line", prompts),
      el("div", { class: "row" }, button, el("label", { class: "check" }, mirror, "Signed with the left hand")),
    ),
  );
}

/** The first prompts with their scores, and the warnings. */
function showRanked(list, answer) {
  const [found] = answer.clips;
  const best = Math.max(...found.ranked.map((one) => one.score), 1e-6);
  const items = found.ranked.map(({ prompt, score }) => {
    const bar = el("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", String(Math.max(0, score / best)));
    return el("li", {}, el("span", { class: "prompt" }, prompt), el("span", { class: "score" }, score.toFixed(3)), bar);
  });
  const warnings = [...found.warnings, ...answer.warnings].map((line) => el("li", { class: "warning" }, line));
  list.replaceChildren(...warnings, ...items);
}
