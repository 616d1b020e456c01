/** Shows the view in the report's own file. */
import { resultsView } from "./results.js";

const view = JSON.parse(document.getElementById("view").textContent);
document.getElementById("results").replaceChildren(resultsView(view));
addEventListener("hashchange", () => location.reload());
