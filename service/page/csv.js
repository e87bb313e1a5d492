// Comma-separated values: the table as a file, and a posted file as candles.

const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

/** Rows as a CSV text. */
export const toCsv = (head, rows) => [head, ...rows].map((row) => row.map((value) => quoted(String(value ?? ""))).join(",")).join("\n") + "\n";

/** Offer a text as a file of this name. */
export function download(name, content) {
  const url = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const KNOWN = ["open_time", "open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote"];

/**
 * Make a body for /predict from pasted text: JSON as the API takes it, rows of candles, Binance's klines, or CSV with
 * a heading. Throws an Error that names what is missing.
 */
export function toBody(pasted) {
  const content = pasted.trim();
  if (!content) throw new Error("Paste candles first, or drop a file.");
  if (content.startsWith("{") || content.startsWith("[")) {
    let parsed;
    try {
      parsed = JSON.parse(content);
    } catch (error) {
      throw new Error(`Invalid JSON: ${error.message}`);
    }
    if (!Array.isArray(parsed)) return parsed;
    return Array.isArray(parsed[0]) ? { klines: parsed } : { candles: parsed };
  }
  const [head, ...lines] = content.split(/\r?\n/).map((line) => line.split(",").map((cell) => cell.trim()));
  const missing = KNOWN.slice(0, 6).filter((name) => !head.includes(name));
  if (missing.length) throw new Error(`The first line of a CSV must name its columns; missing: ${missing.join(", ")}.`);
  const columns = head.map((name, at) => [name, at]).filter(([name]) => KNOWN.includes(name));
  const candles = lines.filter((line) => line.length > 1).map((line) =>
    Object.fromEntries(columns.map(([name, at]) => [name, name === "open_time" ? moment(line[at]) : Number(line[at])])));
  return { candles };
}

/** Milliseconds stay; a time without an offset is UTC. */
function moment(cell) {
  if (/^\d+$/.test(cell)) return Number(cell);
  const iso = cell.replace(" ", "T");
  return /([zZ]|[+-]\d\d:?\d\d)$/.test(iso) ? iso : `${iso}Z`;
}
