/** A line that says what is being done, or what went wrong. */
import { el } from "./dom.js";

/**
 * @returns {{element: HTMLElement, run: (text: string, work: (say: (text: string) => void) => Promise,
 *   show?: (found: *) => void|Promise) => Promise}}
 *   `run` says `text` while `work` runs, gives what it returns to `show`, and then says nothing, or the error. Of
 *   several, only the last one started is shown: answers may arrive in another order than the requests were sent.
 */
export function status() {
  const element = el("p", { class: "status", role: "status" });
  let last = 0;
  const run = async (text, work, show) => {
    const number = ++last;
    const say = (line, bad = false) => {
      if (number !== last) return;
      element.textContent = line;
      element.classList.toggle("warning", bad);
    };
    say(text);
    try {
      const found = await work(say);
      if (number === last) await show?.(found);
      say("");
    } catch (error) {
      say(error.message, true);
    }
  };
  return { element, run };
}
