// SVG charts without a time axis: residuals, scatter, reliability, bars. Each has a label in words.

import { svg } from "./dom.js";

const WIDTH = 360;
const HEIGHT = 200;
const LEFT = 44;
const BOTTOM = 34;
const TOP = 8;
const RIGHT = 10;

/** Steps of 1, 2 or 5 times a power of ten within [low, high], about `wanted` of them. */
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) found.push(at * step);
  return found;
}

/** Make a frame with axes; returns the drawing and the two scales. */
function frame(label, [xLow, xHigh], [yLow, yHigh], xName, yName, { xText = String, yText = String } = {}) {
  const x = (value) => LEFT + ((value - xLow) / (xHigh - xLow || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + ((yHigh - value) / (yHigh - yLow || 1)) * (HEIGHT - TOP - BOTTOM);
  const drawing = svg("svg", { class: "drawn", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const at of ticks(yLow, yHigh, 4)) {
    drawing.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(at), y2: y(at) }));
    drawing.append(svg("text", { x: LEFT - 6, y: y(at) + 3.5, "text-anchor": "end" }, yText(round(at))));
  }
  for (const at of ticks(xLow, xHigh, 5)) {
    drawing.append(svg("text", { x: x(at), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, xText(round(at))));
  }
  drawing.append(svg("text", { class: "axis", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, xName));
  drawing.append(svg("text", { class: "axis", x: 10, y: (TOP + HEIGHT - BOTTOM) / 2, transform: `rotate(-90 10 ${(TOP + HEIGHT - BOTTOM) / 2})`, "text-anchor": "middle" }, yName));
  return { drawing, x, y };
}

const round = (value) => Number(value.toPrecision(6));

/** Two histograms over the same edges: own filled, rival as an outline. */
export function histogram(label, edges, own, rival, xName) {
  const top = Math.max(1, ...own, ...rival);
  const { drawing, x, y } = frame(label, [edges[0], edges.at(-1)], [0, top], xName, "forecasts");
  own.forEach((height, at) => drawing.append(svg("rect", {
    class: "own", x: x(edges[at]) + 0.4, y: y(height), width: Math.max(0.5, x(edges[at + 1]) - x(edges[at]) - 0.8), height: y(0) - y(height),
  })));
  const outline = rival.map((height, at) => `${at ? "L" : "M"}${x(edges[at])} ${y(height)}L${x(edges[at + 1])} ${y(height)}`).join("");
  drawing.append(svg("path", { class: "rival-line", d: outline }), svg("line", { class: "zero", x1: x(0), x2: x(0), y1: TOP, y2: y(0) }));
  return drawing;
}

/** Points, with the line on which both are equal, and that of persistence, which forecasts 0. */
export function scatter(label, horizontal, vertical, xName, yName) {
  const reach = (values) => {
    const sizes = values.map(Math.abs).sort((a, b) => a - b);
    return sizes[Math.floor(sizes.length * 0.98)] * 1.1 || 1;
  };
  const [across, up] = [reach(horizontal), reach(vertical)];
  const { drawing, x, y } = frame(label, [-across, across], [-up, up], xName, yName);
  const least = Math.min(across, up);
  drawing.append(svg("line", { class: "rival-line", x1: x(0), x2: x(0), y1: y(up), y2: y(-up) }), svg("line", { class: "ideal", x1: x(-least), y1: y(-least), x2: x(least), y2: y(least) }));
  const within = (value, reach) => Math.max(-reach, Math.min(reach, value)); // the farthest points lie on the frame
  horizontal.forEach((value, at) => drawing.append(svg("circle", {
    class: value * vertical[at] >= 0 ? "hit" : "miss", cx: x(within(value, across)), cy: y(within(vertical[at], up)), r: 2.1,
  })));
  return drawing;
}

/** Forecast probability against the share that rose, with two standard errors; the diagonal is calibrated. */
export function reliability(label, bins) {
  const bounds = bins.flatMap(({ probability, rising, n }) => {
    const error = 2 * Math.sqrt((rising * (1 - rising)) / n);
    return [probability, rising - error, rising + error];
  });
  const low = Math.max(0, Math.min(...bounds) - 0.01);
  const high = Math.min(1, Math.max(...bounds) + 0.01);
  const share = (value) => `${round(100 * value)}`;
  const { drawing, x, y } = frame(label, [low, high], [low, high], "probability up, %", "rose, %", { xText: share, yText: share });
  drawing.append(svg("line", { class: "ideal", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }));
  for (const { probability, rising, n } of bins) {
    const error = 2 * Math.sqrt((rising * (1 - rising)) / n);
    drawing.append(svg("line", { class: "whisker", x1: x(probability), x2: x(probability), y1: y(Math.max(low, rising - error)), y2: y(Math.min(high, rising + error)) }));
    drawing.append(svg("circle", { class: "dot", cx: x(probability), cy: y(rising), r: 3.6 }));
  }
  return drawing;
}

/** Upright bars of shares around `base`; a bar is faint if `isFaint`. */
export function bars(label, rows, base, xName) {
  const values = rows.map(({ value }) => value);
  const [low, high] = [Math.min(base, ...values) - 0.01, Math.max(base, ...values) + 0.01];
  const { drawing, x, y } = frame(label, [0, rows.length], [low, high], xName, "right, %", { xText: () => "", yText: (at) => `${round(100 * at)}` });
  rows.forEach(({ name, value, isFaint }, at) => {
    const [above, below] = [Math.max(value, base), Math.min(value, base)];
    drawing.append(svg("rect", { class: `${value >= base ? "good" : "bad"}${isFaint ? " faint" : ""}`, x: x(at) + 8, width: x(1) - x(0) - 16, y: y(above), height: Math.max(1, y(below) - y(above)) }));
    drawing.append(svg("text", { x: x(at + 0.5), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, name));
  });
  drawing.append(svg("line", { class: "zero", x1: LEFT, x2: WIDTH - RIGHT, y1: y(base), y2: y(base) }));
  return drawing;
}

/** Horizontal bars, longest first, with a mark at each limit. rows: {name, value, limit}; @param shown value => text */
export function lyingBars(label, rows, shown) {
  const most = Math.max(1e-9, ...rows.flatMap(({ value, limit }) => [value, limit ?? 0]));
  const line = 19;
  const drawing = svg("svg", { class: "drawn listed", viewBox: `0 0 ${WIDTH} ${rows.length * line + 4}`, role: "img", "aria-label": label });
  const wide = WIDTH - 190;
  rows.forEach(({ name, value, limit }, at) => {
    const middle = at * line + 10;
    drawing.append(svg("text", { x: 118, y: middle + 4, "text-anchor": "end" }, name));
    const isOver = limit !== undefined && value >= limit;
    drawing.append(svg("rect", { class: isOver ? "bad" : "own", x: 124, y: middle - 6, width: Math.max(1, (Math.max(0, value) / most) * wide), height: 12, rx: 2 }));
    if (limit !== undefined) drawing.append(svg("line", { class: "limit", x1: 124 + (limit / most) * wide, x2: 124 + (limit / most) * wide, y1: middle - 9, y2: middle + 9 }));
    drawing.append(svg("text", { x: WIDTH - 2, y: middle + 4, "text-anchor": "end" }, shown(value)));
  });
  return drawing;
}
