// Drawings that the chart library lacks: bands, shaded stretches, marked moments, hits and misses.

/** A drawing in pixels behind or before a chart's series, repeated whenever the chart is drawn. */
export class Layer {
  #draw; #order; #chart; #series; #update = () => {};

  /** @param draw (context, {width, height}, chart, series, data) => void; @param order "bottom", "normal" or "top" */
  constructor(draw, order = "bottom") {
    this.#draw = draw;
    this.#order = order;
    this.data = null;
  }

  attached({ chart, series, requestUpdate }) {
    [this.#chart, this.#series, this.#update] = [chart, series, requestUpdate];
  }

  set(data) {
    this.data = data;
    this.#update();
  }

  updateAllViews() {}

  paneViews() {
    const draw = (target) => target.useMediaCoordinateSpace(({ context, mediaSize }) => {
      if (this.data) this.#draw(context, mediaSize, this.#chart, this.#series, this.data);
    });
    return [{ zOrder: () => this.#order, renderer: () => ({ draw }) }];
  }
}

/** Indices of the steps in sight, one more on either side. */
function inSight(chart, length) {
  const range = chart.timeScale().getVisibleLogicalRange();
  return range ? [Math.max(0, Math.floor(range.from) - 1), Math.min(length - 1, Math.ceil(range.to) + 1)] : [0, -1];
}

/** A filled band; data: {low, high, colour}, low and high being values or null by step. */
export function drawBand(context, _size, chart, series, { low, high, colour }) {
  const [first, last] = inSight(chart, low.length);
  const scale = chart.timeScale();
  context.fillStyle = colour;
  for (let start = first; start <= last; start += 1) {
    if (high[start] === null) continue;
    let end = start;
    while (end < last && high[end + 1] !== null) end += 1;
    const half = start === end ? 4 : 0;
    context.beginPath();
    for (let at = start; at <= end; at += 1) context.lineTo(scale.logicalToCoordinate(at) - half, series.priceToCoordinate(high[at]));
    for (let at = end; at >= start; at -= 1) context.lineTo(scale.logicalToCoordinate(at) + half, series.priceToCoordinate(low[at]));
    context.fill();
    start = end;
  }
}

/** Rings on forecasts whose outcome is not known; data: {values, pending, colours}, values and counts by step. */
export function drawPending(context, _size, chart, series, { values, pending, colours }) {
  const [first, last] = inSight(chart, values.length);
  context.fillStyle = colours.card;
  context.strokeStyle = colours.accent;
  context.lineWidth = 1.5;
  for (let at = first; at <= last; at += 1) {
    if (!pending[at]) continue;
    context.beginPath();
    context.arc(chart.timeScale().logicalToCoordinate(at), series.priceToCoordinate(values[at]), 3.2, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
}

/** A row of small bars at the bottom: up for hits, down for misses, faint where confidence is low. */
export function drawHits(context, { height }, chart, _series, { hits, misses, faint, colours }) {
  const [first, last] = inSight(chart, hits.length);
  const scale = chart.timeScale();
  const width = Math.max(1, Math.min(9, (scale.logicalToCoordinate(1) - scale.logicalToCoordinate(0)) * 0.7));
  const middle = height - 9;
  for (let at = first; at <= last; at += 1) {
    const all = hits[at] + misses[at];
    if (!all) continue;
    const x = scale.logicalToCoordinate(at) - width / 2;
    context.globalAlpha = faint[at] ? 0.35 : 1;
    context.fillStyle = colours.up;
    context.fillRect(x, middle - (7 * hits[at]) / all, width, (7 * hits[at]) / all);
    context.fillStyle = colours.down;
    context.fillRect(x, middle + 1, width, (7 * misses[at]) / all);
  }
  context.globalAlpha = 1;
}

/** Coordinate of a moment, also between two steps; null before the first step. */
function xOf(chart, times, moment) {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= moment) low = middle + 1;
    else high = middle;
  }
  return chart.timeScale().logicalToCoordinate(low - 1);
}

/** A shaded stretch and marked moments; data: {times, from, to, marks: [{time, label}], colours}, times in seconds. */
export function drawMoments(context, { width, height }, chart, _series, { times, from, to, marks, colours }) {
  if (!times.length) return;
  if (from !== null && to > times[0] && from < times.at(-1)) {
    const left = from <= times[0] ? 0 : xOf(chart, times, from);
    const right = to >= times.at(-1) ? width : xOf(chart, times, to);
    context.fillStyle = colours.held;
    context.fillRect(left, 0, right - left, height);
  }
  context.font = "600 11px system-ui, sans-serif";
  for (const { time, label } of marks) {
    if (time < times[0] || time > times.at(-1)) continue;
    const x = Math.round(xOf(chart, times, time)) + 0.5;
    context.strokeStyle = colours.accent;
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, height);
    context.stroke();
    context.setLineDash([]);
    const wide = context.measureText(label).width;
    const left = Math.min(x, width - wide - 8);
    context.fillStyle = colours.accent;
    context.fillRect(left, 0, wide + 8, 17);
    context.fillStyle = colours["on-accent"];
    context.fillText(label, left + 4, 12);
  }
}
