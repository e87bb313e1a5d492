// The candlestick chart: candles, and over each the close that had been forecast for it with its interval.

import { dayTime, date, hhmm, price } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { top: 10, right: 82, bottom: 22, left: 4 };
const SLOT = 9; // least width of a candle, in pixels
const HOUR = 3600e3;

function add(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

/** Steps of 1, 2 or 5 times a power of ten, about `count` of them. */
function niceStep(range, count) {
  const rough = range / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
}

/** Lay candles and forecasts out on one grid of time slots, as many as fit `width`. */
function slots(candles, forecasts, step, width) {
  const byTime = new Map();
  for (const candle of candles) byTime.set(Date.parse(candle.open_time), { candle });
  for (const forecast of forecasts) {
    const time = Date.parse(forecast.open_time);
    byTime.set(time, { ...byTime.get(time), forecast });
  }
  const end = Math.max(...byTime.keys());
  const count = Math.max(12, Math.floor(width / SLOT));
  const start = Math.max(Math.min(...byTime.keys()), end - (count - 1) * step);
  return [...byTime].filter(([time]) => time >= start).sort((a, b) => a[0] - b[0])
    .map(([time, held]) => ({ time, position: (time - start) / step, ...held }));
}

/**
 * Draw into an SVG element, replacing what it held.
 * @param step length of a candle in milliseconds
 * @param caption element that describes what the pointer is at
 */
export function drawChart(svg, caption, candles, forecasts, step) {
  const { width, height } = svg.getBoundingClientRect();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const plot = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const shown = slots(candles, forecasts, step, plot.width);
  const values = shown.flatMap(({ candle, forecast }) => [
    ...(candle ? [candle.low, candle.high] : []),
    ...(forecast ? [forecast.close_lower, forecast.close_upper] : []),
  ]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low) * 0.04 || high * 0.001;
  const slot = plot.width / (shown.at(-1).position + 1);
  const x = (position) => MARGIN.left + (position + 0.5) * slot;
  const y = (value) => MARGIN.top + ((high + pad - value) / (high - low + 2 * pad)) * plot.height;

  drawGrid(svg, { low, high, plot, width, y });
  drawTimes(svg, shown, { slot, height, width, x });
  const body = Math.max(2, slot * 0.62);
  for (const { position, forecast } of shown) {
    if (!forecast) continue;
    const top = y(forecast.close_upper);
    const tall = y(forecast.close_lower) - top;
    add(svg, "rect", { class: "band", x: x(position) - slot / 2, y: top, width: slot, height: tall });
  }
  for (const { position, candle } of shown) if (candle) drawCandle(svg, candle, x(position), y, body);
  for (const { position, forecast } of shown) {
    if (forecast) add(svg, "circle", { class: "forecast", cx: x(position), cy: y(forecast.close), r: Math.min(3, slot / 3.2) });
  }
  drawNext(svg, shown, { slot, plot, width, x, y });
  followPointer(svg, caption, shown, { slot, plot, x });
}

function drawGrid(svg, { low, high, plot, width, y }) {
  const step = niceStep(high - low || 1, Math.max(3, plot.height / 60));
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    add(svg, "line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) });
    add(svg, "text", { class: "axis", x: width - MARGIN.right + 8, y: y(value) + 4 }, price(value, high));
  }
}

function drawTimes(svg, shown, { slot, height, width, x }) {
  const perLabel = (shown.at(-1).time - shown[0].time) / Math.max(1, width / 110);
  const step = [0.25, 0.5, 1, 2, 3, 6, 12, 24, 72, 168].map((hours) => hours * HOUR).find((one) => one >= perLabel);
  for (const { time, position } of shown) {
    if (!step || time % step || x(position) < 18 || x(position) > width - MARGIN.right - slot) continue;
    const label = time % (24 * HOUR) ? hhmm(time) : date(time);
    add(svg, "text", { class: "axis", x: x(position), y: height - 6, "text-anchor": "middle" }, label);
  }
}

function drawCandle(svg, candle, middle, y, body) {
  const group = add(svg, "g", { class: candle.close >= candle.open ? "up" : "down" });
  add(group, "line", { x1: middle, x2: middle, y1: y(candle.high), y2: y(candle.low) });
  const [top, bottom] = [y(Math.max(candle.open, candle.close)), y(Math.min(candle.open, candle.close))];
  add(group, "rect", { x: middle - body / 2, y: top, width: body, height: Math.max(1, bottom - top), stroke: "none" });
}

/** Mark the forecast whose candle is still to come, and the last close, which is what persistence says. */
function drawNext(svg, shown, { slot, plot, width, x, y }) {
  const last = shown.findLast(({ candle }) => candle);
  const next = shown.at(-1);
  if (last) {
    const height = y(last.candle.close);
    add(svg, "line", { class: "last", x1: x(last.position), x2: width - MARGIN.right, y1: height, y2: height });
  }
  if (!next.forecast || next.candle) return;
  add(svg, "rect", { class: "next", x: x(next.position) - slot / 2, y: MARGIN.top, width: slot, height: plot.height });
  const height = y(next.forecast.close);
  add(svg, "rect", { class: "tag", x: width - MARGIN.right + 3, y: height - 9, width: MARGIN.right - 5, height: 18, rx: 4 });
  add(svg, "text", { class: "tag-text", x: width - MARGIN.right + 8, y: height + 4 }, price(next.forecast.close));
}

function followPointer(svg, caption, shown, { slot, plot, x }) {
  const cross = add(svg, "line", { class: "cross", y1: MARGIN.top, y2: MARGIN.top + plot.height, visibility: "hidden" });
  const rest = () => {
    cross.setAttribute("visibility", "hidden");
    caption.textContent = describe(shown.findLast(({ candle }) => candle) ?? shown.at(-1));
  };
  svg.onpointermove = (event) => {
    const at = (event.clientX - svg.getBoundingClientRect().left - MARGIN.left) / slot - 0.5;
    const nearest = shown.reduce((best, one) => (Math.abs(one.position - at) < Math.abs(best.position - at) ? one : best));
    cross.setAttribute("visibility", "visible");
    cross.setAttribute("x1", x(nearest.position));
    cross.setAttribute("x2", x(nearest.position));
    caption.textContent = describe(nearest);
  };
  svg.onpointerleave = rest;
  rest();
}

function describe({ time, candle, forecast }) {
  const parts = [dayTime(time)];
  if (candle) {
    parts.push(`O ${price(candle.open)}  H ${price(candle.high)}  L ${price(candle.low)}  C ${price(candle.close)}`);
  }
  if (forecast) {
    const bounds = `${price(forecast.close_lower)} to ${price(forecast.close_upper)}`;
    const off = candle ? `, off by ${price(Math.abs(forecast.close - candle.close), candle.close)}` : ", not closed yet";
    parts.push(`forecast close ${price(forecast.close)} (${bounds})${off}`);
  }
  return parts.join("  ·  ");
}
