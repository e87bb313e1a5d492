// The colours of the style sheet for drawings on canvas, and a notice when the scheme changes.

const NAMES = ["text", "quiet", "line", "card", "accent", "accent-soft", "on-accent", "up", "down", "rival", "held"];

export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Call `repaint` whenever the colour scheme changes. */
export function onScheme(repaint) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
}
