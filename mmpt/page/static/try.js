/** Try: a clip is ranked among prompts that can be edited. */
import { post } from "./api.js";
import { clipInput } from "./clipinput.js";
import { el, form, warning } from "./dom.js";
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
  const warnings = el("div", {});
  const ranked = el("ol", { class: "ranked" });
  const ranking = status();
  const button = el("button", { type: "button", class: "primary", disabled: true, onclick: () => rank() }, "Rank the prompts");
  let clip = null;

  function setClip(pose) {
    clip = pose;
    button.disabled = player.element.hidden = !pose;
    warnings.replaceChildren();
    ranked.replaceChildren();
    rank();
  }

  function take(pose) {
    setClip(null);
    const read = () =>
      post("/api/pose", { clip: pose }).catch((error) => {
        throw new Error(`${pose.name}: ${error.message}`);
      });
    state.run("Reading the pose", read, (drawn) => {
      setClip(pose);
      return player.show(drawn, pose.name);
    });
  }

  function rank() {
    const work = async () => {
      if (!clip) return null;
      const given = prompts.value.split("\n").map((line) => line.trim()).filter(Boolean);
      if (!given.length) throw new Error("Write at least one prompt; one prompt per line.");
      return post("/api/rank", { clip, prompt: given, top: String(SHOWN), mirror: mirror.checked ? "true" : null });
    };
    ranking.run(clip ? "Ranking" : "", work, (answer) => {
      if (!answer) return;
      warnings.replaceChildren(...[...answer.clips[0].warnings, ...answer.warnings].map(warning));
      ranked.replaceChildren(...rankedItems(answer.clips[0].ranked));
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
      ranking.element,
      warnings,
      ranked,
      el("label", { class: "wide" }, "Prompts, one per line", prompts),
      el("div", { class: "row" }, button, el("label", { class: "check" }, mirror, "Signed with the left hand")),
    ),
  );
}

/** The first prompts with their scores. */
function rankedItems(found) {
  const best = Math.max(...found.map((one) => one.score), 1e-6);
  return found.map(({ prompt, score }) => {
    const bar = el("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", String(Math.max(0, score / best)));
    return el("li", {}, el("bdi", { class: "prompt" }, prompt), el("span", { class: "score" }, score.toFixed(3)), bar);
  });
}
