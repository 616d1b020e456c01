/** Search: words, a sign or a clip to the most similar clips of the index, each playing. */
import { get, post } from "./api.js";
import { clipInput } from "./clipinput.js";
import { counted, el, form } from "./dom.js";
import { PosePlayer } from "./player.js";
import { status } from "./status.js";

const SHOWN = 12;
const AT_ONCE = 3;

/** @param {Object} model of /model */
export function searchPage(model) {
  const state = status();
  const hits = el("ol", { class: "hits" });
  const signs = el("p", { class: "signs" });
  const kinds = model.reads.signwriting ? "Words, or signs in SignWriting (FSW or SWU)" : "Words";
  const example = model.prompts[0] ?? "";
  const text = el("input", { type: "search", name: "query", placeholder: example, required: true, autocomplete: "off" });

  function search(query) {
    return state.run("Searching", () => post("/api/search", { ...query, k: String(SHOWN) }), (answer) => {
      const players = answer.hits.map((hit) => [hit, new PosePlayer(model.drawing, hit.id)]);
      signs.replaceChildren(...answer.signs.map(({ fsw, picture }) => el("img", { src: picture, alt: fsw, title: fsw })));
      hits.replaceChildren(...answer.warnings.map((line) => el("li", { class: "warning" }, line)), ...players.map(card));
      return loadPoses(players);
    });
  }

  const submit = () => {
    if (text.value.trim()) search({ prompt: text.value.trim() });
  };
  return el(
    "div",
    { class: "search" },
    el("h2", { class: "hidden" }, "Search"),
    form(
      { class: "row", role: "search", onsubmit: submit },
      el("label", { class: "wide" }, kinds, text),
      el("button", { class: "primary" }, "Search"),
    ),
    el("details", {}, el("summary", {}, "Search with a clip"), clipInput(model, state, (clip) => search({ clip }))),
    el("p", { class: "count" }, `${counted(model.index.clips, "clip")} in the index`),
    state.element,
    signs,
    hits,
  );
}

function card([hit, player], number) {
  const blank = hit.blank ? el("span", { class: "wrong" }, "shows no hand") : null;
  return el(
    "li",
    {},
    el("div", { class: "hit" }, el("strong", {}, `${number + 1}`), el("span", { class: "score" }, hit.score.toFixed(3)), blank),
    player.element,
  );
}

/** Fetch and show the poses, a few at once; one that cannot be had says why. */
async function loadPoses(players) {
  const waiting = [...players];
  const load = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [hit, player] = next;
      try {
        await player.show(hit.pose ? await get(`/api/clips/${hit.row}/pose`) : null);
      } catch (error) {
        await player.show(null, `${hit.id}: ${error.message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, load));
}
