/** The page: one view for each thing that the server has; the address's #name chooses it. */
import { comeBack, viewOfAddress } from "./address.js";
import { get, takeToken } from "./api.js";
import { dataPage } from "./data.js";
import { el } from "./dom.js";
import { runsPage } from "./runs.js";
import { searchPage } from "./search.js";
import { tryPage } from "./try.js";

const VIEWS = [
  ["try", "Try", tryPage, () => true],
  ["search", "Search", searchPage, (model) => model.index],
  ["results", "Results", runsPage, (model) => model.results],
  ["data", "Data", dataPage, (model) => model.data],
];

async function start() {
  takeToken();
  addEventListener("hashchange", () => takeToken() && location.reload());
  const main = document.getElementById("main");
  let model;
  try {
    model = await get("/model");
  } catch (error) {
    main.replaceChildren(el("p", { class: "warning", role: "alert" }, error.message));
    return;
  }
  document.getElementById("model").textContent = model.name;
  const views = VIEWS.filter(([, , , there]) => there(model));
  const made = new Map();
  const links = views.map(([name, title]) => el("a", { href: `#${name}` }, title));
  document.getElementById("views").replaceChildren(...links);
  const show = () => {
    const index = Math.max(0, views.findIndex(([name]) => name === viewOfAddress()));
    const [name, title, page] = views[index];
    links.forEach((link, n) => (n === index ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current")));
    if (!made.has(name) || !comeBack()) made.set(name, page(model));
    main.replaceChildren(made.get(name));
    document.title = `${title} - SignCLIP`;
  };
  addEventListener("hashchange", () => {
    show();
    main.focus({ preventScroll: true });
  });
  show();
}

start();
