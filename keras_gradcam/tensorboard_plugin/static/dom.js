// @ts-check
// Builds elements of the page. Text is always set as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Creates an HTML element with properties and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Partial<HTMLElementTagNameMap[K]> | null} properties
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(name, properties, ...children) {
  const created = document.createElement(name);
  Object.assign(created, properties);
  created.append(...children);
  return created;
}

/**
 * Creates an SVG element with attributes.
 * @param {string} name
 * @param {Record<string, string>} attributes
 */
export function svg(name, attributes) {
  const created = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  return created;
}

const ICONS = {
  previous: "M10 3 4 8l6 5z",
  next: "M6 3l6 5-6 5z",
  play: "M4 2l9 6-9 6z",
  pause: "M4 2h3v12H4zM9 2h3v12H9z",
};

/**
 * Shows an icon on a button.
 * @param {HTMLElement} button
 * @param {keyof typeof ICONS} name
 */
export function setIcon(button, name) {
  if (button.dataset.icon === name) return;
  button.dataset.icon = name;
  button.replaceChildren(svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }));
  button.firstChild?.appendChild(svg("path", { d: ICONS[name] }));
}

/**
 * Creates a control with its name before it.
 * @param {string} text
 * @param {HTMLElement} control
 */
export function labelled(text, control) {
  return element("label", { className: "control" }, element("span", { className: "name" }, text), control);
}

/**
 * Creates a drop-down list.
 * @param {string} id
 * @param {readonly (readonly [string, string])[]} options (value, text)
 * @param {(value: any) => void} onChoice
 */
export function select(id, options, onChoice) {
  const control = element("select", { id });
  for (const [value, text] of options) control.append(element("option", { value }, text));
  control.addEventListener("change", () => onChoice(control.value));
  return control;
}

/**
 * Creates a row of radio buttons.
 * @param {string} name
 * @param {string} legend
 * @param {readonly (readonly [string, string])[]} options (value, text)
 * @param {(value: any) => void} onChoice
 */
export function segmented(name, legend, options, onChoice) {
  const inputs = options.map(([value, text]) => {
    const input = element("input", { type: "radio", name, value });
    input.addEventListener("change", () => onChoice(value));
    return { input, row: element("label", null, input, element("span", null, text)) };
  });
  const group = element("span", { className: "segmented" }, ...inputs.map(({ row }) => row));
  const root = element("fieldset", { className: "control" }, element("legend", { className: "name" }, legend), group);
  return {
    root,
    set: (/** @type {string} */ value) => inputs.forEach(({ input }) => (input.checked = input.value === value)),
  };
}
