// @ts-check
// What stands in the place of the grid while there is nothing to show, and the list of errors.

import { element } from "./dom.js";
import { shortened } from "./format.js";

/** Creates empty cards to show while the first data are loading. */
export function skeleton() {
  const cards = Array.from({ length: 8 }, () =>
    element("div", { className: "card skeleton" }, element("div", null), element("span", null)),
  );
  const root = element("main", { className: "grid" }, ...cards);
  root.setAttribute("aria-busy", "true");
  root.setAttribute("aria-label", "loading");
  return root;
}

/** Explains how to log data, for a log directory that contains none. */
export function noData() {
  const code = [
    "from keras_gradcam import GuidedGradCAMCallback",
    'callback = GuidedGradCAMCallback((images, labels), log_dir="logs/run1")',
    "model.fit(x, y, epochs=20, callbacks=[callback])",
  ];
  return element(
    "main",
    { className: "message" },
    element("h1", null, "No Grad-CAM data yet"),
    element("p", null, "No run in this log directory contains maps. Three lines of Python log them:"),
    element("pre", null, code.join("\n")),
    element("p", { className: "faint" }, "This page looks for new data every few seconds."),
  );
}

/**
 * Creates a message of one paragraph.
 * @param {string} text
 */
export function hint(text) {
  return element("main", { className: "message" }, element("p", null, text));
}

/**
 * Creates the list of errors, each with a button to try again.
 * @param {() => void} retry
 */
export function errorList(retry) {
  const root = element("div", { className: "errors" });
  root.setAttribute("role", "alert");
  let drawn = "";
  return {
    root,
    /** @param {string[]} texts */
    update(texts) {
      const content = JSON.stringify(texts);
      if (content === drawn) return;
      drawn = content;
      root.replaceChildren(
        ...texts.map((text) => {
          const button = element("button", { type: "button" }, "Retry");
          button.addEventListener("click", retry);
          return element("p", { className: "error" }, element("span", { dir: "auto" }, shortened(text, 400)), button);
        }),
      );
    },
  };
}
