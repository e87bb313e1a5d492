// The part of the period that the charts over time show: all of it, or a closer look at what was zoomed into.

import { address } from "./api.js";
import { PERIODS } from "./choices.js";

const POINTS = 600;
const SETTLED_MS = 350; // after the last move, before a closer look is requested

/** The steps to request, and the steps shown. Times are beginnings of steps, in seconds. */
export class View {
  #choices; #changed; #timer = null;

  /** @param changed called when other steps than those shown are needed */
  constructor(choices, changed) {
    this.#choices = choices;
    this.#changed = changed;
    this.closer = null; // {start, end} of a closer look
    this.sight = null; // [from, to] of the zoom; null is everything
    this.isMoving = false; // a zoom or move is going on
    this.isOwing = false; // an answer came during it and was dropped
    this.times = [];
    this.stepS = 0;
    this.candleS = 0;
  }

  /** Parameters of every request about this market. */
  get market() {
    const { market, symbol, interval } = this.#choices;
    return { market, symbol, interval };
  }

  get hours() {
    return PERIODS[this.#choices.period];
  }

  /** Address of a route for the whole period, as figures need it. */
  ofPeriod(path, points = POINTS) {
    return address(path, { ...this.market, hours: this.hours, points });
  }

  /** Address of a route for the part in sight. */
  ofSight(path) {
    if (!this.closer) return this.ofPeriod(path);
    const [start, end] = [this.closer.start, this.closer.end].map((time) => new Date(time * 1000).toISOString());
    return address(path, { ...this.market, start, end, points: POINTS });
  }

  /** Store the steps that are shown. */
  shows(times, stepS, candleS) {
    [this.times, this.stepS, this.candleS] = [times, stepS, candleS];
  }

  reset() {
    this.closer = null;
    this.sight = null;
    this.isMoving = false;
    clearTimeout(this.#timer);
  }

  /** Steps in sight, counted from the first. */
  get steps() {
    if (!this.sight) return [this.times.length * -0.045, this.times.length * 1.03]; // room for the first and last label
    return this.sight.map((time) => (time - this.times[0]) / this.stepS);
  }

  /** Handle a zoom or move; null is back to the whole period. */
  zoomed(range) {
    clearTimeout(this.#timer);
    if (range === null) {
      this.reset();
      this.#changed();
      return;
    }
    if (!this.times.length) return;
    this.sight = [range.from, range.to].map((step) => this.times[0] + step * this.stepS);
    this.isMoving = true;
    this.#timer = setTimeout(() => this.#look(range.to - range.from), SETTLED_MS);
  }

  /** Request the part in sight if it could be shown finer, or is not complete. */
  #look(steps) {
    this.isMoving = false;
    const [from, to] = this.sight;
    const span = to - from;
    const isWhole = span >= 0.9 * this.hours * 3600;
    const couldBeFiner = this.stepS > this.candleS && steps < POINTS / 3;
    const isOutside = from < this.times[0] - this.stepS || to > this.times.at(-1) + 2 * this.stepS;
    if (isWhole && this.closer) this.closer = null;
    else if (!isWhole && (couldBeFiner || (this.closer && isOutside))) this.closer = { start: from - span / 2, end: to + span / 2 };
    else if (!this.isOwing) return;
    this.isOwing = false;
    this.#changed();
  }
}
