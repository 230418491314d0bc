// @ts-check
// Saves the pictures on the page as one PNG file.

import { element } from "./dom.js";

const GAP = 8;
const LINE = 20;

/**
 * Saves all pictures of a view as one file: side by side if they are few, otherwise as a grid; each with its caption.
 * @param {HTMLElement} view
 * @param {string} name of the file, and its title
 */
export function savePictures(view, name) {
  const found = [...view.querySelectorAll("canvas")].filter((canvas) => !canvas.closest(".strip") && canvas.width > 1);
  if (!found.length) return;
  const [width, height] = [Math.max(...found.map((one) => one.width)), Math.max(...found.map((one) => one.height))];
  const columns = found.length <= 4 ? found.length : Math.ceil(Math.sqrt(found.length));
  const rows = Math.ceil(found.length / columns);
  const sheet = element("canvas", {
    width: GAP + columns * (width + GAP),
    height: LINE + GAP + rows * (height + LINE + GAP),
  });
  const context = sheet.getContext("2d");
  if (!context) return;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.fillStyle = "#212121";
  context.font = "12px sans-serif";
  context.fillText(name, GAP, LINE - 4);
  found.forEach((canvas, i) => {
    const [x, y] = [GAP + (i % columns) * (width + GAP), LINE + GAP + Math.floor(i / columns) * (height + LINE + GAP)];
    context.drawImage(canvas, x, y);
    context.fillText(captionOf(canvas), x, y + height + LINE - 6, width);
  });
  sheet.toBlob((blob) => {
    if (!blob) return;
    const address = URL.createObjectURL(blob);
    element("a", { href: address, download: `${name.replace(/\W+/g, "_")}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
}

/**
 * Returns the words that stand beside a picture: its run, and its caption.
 * @param {HTMLElement} canvas
 */
function captionOf(canvas) {
  const owner = canvas.closest(".column, .large");
  const words = [".run-name, h2", ".caption"].map((selector) => owner?.querySelector(selector)?.textContent ?? "");
  return words.filter(Boolean).join("  ");
}
