/** A line that says what is being done, or what went wrong. */
import { el } from "./dom.js";

/**
 * @returns {{element: HTMLElement, say: (text: string) => void, run: (text: string, work: () => Promise) => Promise<boolean>}}
 *   `run` shows `text` while `work` runs, and then nothing, or the error; returns whether it succeeded. Of
 *   several, only the last one started is shown.
 */
export function status() {
  const element = el("p", { class: "status", role: "status" });
  let last = 0;
  const say = (text, bad = false) => {
    element.textContent = text;
    element.classList.toggle("warning", bad);
  };
  const run = async (text, work) => {
    const number = ++last;
    say(text);
    try {
      await work();
      if (number === last) say("");
      return true;
    } catch (error) {
      if (number === last) say(error.message, true);
      return false;
    }
  };
  return { element, say, run };
}
