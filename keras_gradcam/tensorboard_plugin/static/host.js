// @ts-check
// TensorBoard around us: its address, its theme, its reload button. The page works alone, too.

/** The window whose address people copy. */
function outer() {
  try {
    void window.parent.document; // throws for another origin
    return window.parent;
  } catch {
    return window;
  }
}

export function readHash() {
  return outer().location.hash;
}

/** @param {string} hash */
export function writeHash(hash) {
  const { location, history } = outer();
  if (hash === location.hash) return;
  // Without an entry in the history and without waking the host's router.
  history.replaceState(history.state, "", location.pathname + location.search + (hash || "#"));
}

/** @param {() => void} changed */
export function onHashChange(changed) {
  outer().addEventListener("hashchange", changed);
}

/** Light or dark as the host is, now and later. */
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
 * Calls back when the person or the timer reloads TensorBoard's data.
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
 * Keys pressed here, and those pressed in the host while nothing of it has the focus and we are on the screen.
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
