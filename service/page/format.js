// Numbers and times as the page shows them; times are always UTC.

const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short" });
const dayYear = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short", year: "numeric" });

export const hhmm = (time) => clock.format(new Date(time));
export const date = (time) => day.format(new Date(time));
export const dayTime = (time) => `${date(time)}, ${hhmm(time)}`;
export const fullTime = (time) => `${dayYear.format(new Date(time))}, ${hhmm(time)} UTC`;

/** A price, or a difference of prices around `scale`, with as many decimals as that size leaves readable. */
export function price(value, scale = value) {
  const digits = scale >= 1000 ? 2 : scale >= 1 ? 4 : 8;
  return value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: digits });
}

export const percent = (share, digits = 1) => (share === null ? "–" : `${(100 * share).toFixed(digits)} %`);

/** A signed figure: +0.17 % */
export const signed = (value, digits, unit) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)} ${unit}`;

/** How long ago, roughly. */
export function ago(time, now = Date.now()) {
  const seconds = Math.max(0, Math.round((now - new Date(time)) / 1000));
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}
