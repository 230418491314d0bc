// @ts-check
// TensorBoard around this page: its address, its theme, its reload button. The page also works on its own.

/** Returns the window whose address users copy: that of TensorBoard if the page runs inside it. */
function outer() {
  try {
    void window.parent.document; // throws for another origin
    return window.parent;
  } catch {
    return window;
  }
}

/** Returns the hash of the address. */
export function readHash() {
  return outer().location.hash;
}

/**
 * Replaces the hash of the address.
 * @param {string} hash
 */
export function writeHash(hash) {
  const { location, history } = outer();
  if (hash === location.hash) return;
  // replaceState adds no entry to the history and does not trigger TensorBoard's router.
  history.replaceState(history.state, "", location.pathname + location.search + (hash || "#"));
}

/**
 * Calls back when the hash has changed.
 * @param {() => void} changed
 */
export function onHashChange(changed) {
  outer().addEventListener("hashchange", changed);
}

/** Follows the theme of TensorBoard, light or dark. */
export function followTheme() {
  const host = outer();
  const follow = () => {
    const dark =
      host === window
        ? matchMedia("(prefers-color-scheme: dark)").matches
        : host.document.body.classList.contains("dark-mode");
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  };
  follow();
  if (host === window) matchMedia("(prefers-color-scheme: dark)").addEventListener("change", follow);
  else new MutationObserver(follow).observe(host.document.body, { attributes: true, attributeFilter: ["class"] });
}

/**
 * Calls back when the user or the timer reloads TensorBoard's data.
 * @param {() => void} reloaded
 */
export function onReload(reloaded) {
  if (window.parent === window) return;
  const channel = new MessageChannel();
  channel.port1.onmessage = (event) => {
    let message;
    try {
      message = JSON.parse(event.data);
    } catch {
      return;
    }
    if (message.isReply) return;
    channel.port1.postMessage(JSON.stringify({ ...message, payload: null, error: null, isReply: true }));
    if (message.type === "experimental.DataReloaded") reloaded();
  };
  window.parent.postMessage("experimental.bootstrap", location.origin, [channel.port2]);
}

/**
 * Calls back for keys pressed in this page, and in TensorBoard while this tab is shown and nothing else has the focus.
 * @param {(event: KeyboardEvent) => void} pressed
 */
export function onKey(pressed) {
  document.addEventListener("keydown", pressed);
  const host = outer();
  if (host === window) return;
  host.document.addEventListener("keydown", (event) => {
    const frame = /** @type {HTMLElement | null} */ (window.frameElement);
    const idle = event.target === host.document.body || event.target === frame;
    if (idle && frame?.offsetParent) pressed(event);
  });
}
