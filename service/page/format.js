// Numbers and times as the page shows them; times in the zone that was chosen.

let zone = "UTC";
let formats = make();

function make() {
  const at = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
  return {
    clock: at({ hour: "2-digit", minute: "2-digit" }),
    exact: at({ hour: "2-digit", minute: "2-digit", second: "2-digit" }),
    day: at({ day: "numeric", month: "short" }),
    year: at({ day: "numeric", month: "short", year: "numeric" }),
    month: at({ month: "short", year: "numeric" }),
  };
}

/** Show times in this zone from now on: an IANA name. */
export function useZone(name) {
  zone = name;
  formats = make();
}

export const zoneName = () => zone.replace(/^.*\//, "").replace("_", " ");
export const hhmm = (time) => formats.clock.format(new Date(time));
export const hhmmss = (time) => formats.exact.format(new Date(time));
export const date = (time) => formats.day.format(new Date(time));
export const month = (time) => formats.month.format(new Date(time));
export const dayTime = (time) => `${date(time)}, ${hhmm(time)}`;
export const fullTime = (time) => `${formats.year.format(new Date(time))}, ${hhmm(time)}`;

/** Decimals that show six digits of a number, at least two: 2 of 104,321, 10 of 0.0000123. */
export function decimals(size) {
  return size ? Math.min(16, Math.max(2, 5 - Math.floor(Math.log10(Math.abs(size))))) : 2;
}

/** A price, or a difference of prices around `scale`, with as many decimals as that size needs. */
export function price(value, scale = value) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: decimals(scale) });
}

/** A difference of prices with three digits at least: 85.31, 0.0421, 3.20e-8. */
export function difference(value) {
  return value === null || value === undefined || Math.abs(value) >= 1 || !value ? price(value, 1000) : value.toPrecision(3);
}

/** A signed difference of prices: +85.31, −3.20e-8. */
export const signedDifference = (value) => `${value < 0 ? "−" : "+"}${difference(Math.abs(value))}`;

/** Format of a chart's price axis for numbers of this size; by default the library marks no step below 0.01. */
export function axisFormat(size) {
  const precision = decimals(size);
  return { type: "price", precision, minMove: 10 ** -precision };
}

export const count = (value) => value.toLocaleString("en-US");
export const fixed = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
export const percent = (share, digits = 1) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)} %`);

/** A signed figure: +0.17 % */
export function signed(value, digits, unit = "") {
  if (value === null || value === undefined) return "–";
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}${unit && ` ${unit}`}`;
}

/** An interval of shares, as percent: "−0.2 to +0.5 %". */
export const between = (interval, digits = 2) =>
  interval ? `${signed(100 * interval[0], digits)} to ${signed(100 * interval[1], digits)} %` : "too few for an interval";

/** A length of time in seconds, roughly. */
export function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** How long ago, roughly, both in milliseconds. */
export const ago = (time, now) => `${span(Math.max(0, (now - new Date(time)) / 1000))} ago`;
