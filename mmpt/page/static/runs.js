/** Results: the evaluations that the server has, alone or two side by side. */
import { choose, chosen } from "./address.js";
import { get } from "./api.js";
import { el, isolated, select, warning } from "./dom.js";
import { compareView, resultsView } from "./results.js";
import { status } from "./status.js";

export function runsPage() {
  const state = status();
  const body = el("div", {});
  const bar = el("div", { class: "row" });
  const load = (name) => get(`/api/results/${encodeURIComponent(name)}`);

  state.run("Reading the results", () => get("/api/results"), ({ results }) => {
    const names = results.map(({ name }) => [name, name]);
    const show = () => {
      const shown = [run.box.value, other?.box.value].filter(Boolean);
      body.replaceChildren();
      return state.run("Reading the results", () => Promise.all(shown.map(load)), (views) =>
        body.replaceChildren(views.length > 1 ? compareView(...views, shown) : resultsView(views[0])),
      );
    };
    const gone = ["run", "with"].map(chosen).filter((name) => name && !names.some(([there]) => there === name));
    const missing = gone.map((name) => warning(`The address names the run ${isolated(name)}, which is not here.`));
    const changed = () => {
      missing.forEach((line) => line.remove());
      choose({ run: run.box.value, with: other?.box.value }, true);
      return show();
    };
    const run = select("Run", names, changed, chosen("run"));
    const other = names.length > 1 ? select("Compare with", [["", "nothing"], ...names], changed, chosen("with")) : null;
    bar.replaceChildren(run.element, ...(other ? [other.element] : []), ...missing);
    return show();
  });
  return el("div", {}, bar, state.element, body);
}
