// The colours of the style sheet for what is drawn on canvas, and word when the scheme changes.

const NAMES = ["text", "quiet", "line", "card", "accent", "accent-soft", "on-accent", "up", "down", "rival", "held"];

export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Call `repaint` whenever light becomes dark or the other way round. */
export function onScheme(repaint) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
}
