// The newest forecast, the version that made it, and whether both are fresh.

import { now } from "../api.js";
import { element, facts, state, text } from "../dom.js";
import { ago, dayTime, fixed, hhmm, percent, price, signed, span } from "../format.js";

let countdown = null;

/** Milliseconds on the exchange's clock, extrapolated from a forecast's record because a replay runs faster. */
function exchangeNow(forecast, speed) {
  return Date.parse(forecast.issued_at) + (now() - Date.parse(forecast.recorded_at)) * speed;
}

const tile = (name, ...children) => element("article", { class: "tile" }, element("h3", {}, name), ...children);
const blank = (name, message) => tile(name, text("p", "sub", message));

/** Name of what is forecast: of the next candle, or of a later one. */
function ahead(what, { open_time: opens, close_time: closes, horizon }) {
  return horizon === 1 ? `Next ${what}` : `${what} in ${span((horizon * (Date.parse(closes) - Date.parse(opens))) / 1000)}`.replace(/^./, (letter) => letter.toUpperCase());
}

/** A price as a figure: small if it has many digits. */
const priceFigure = (...given) => text("p", price(...given).length > 12 ? "figure long" : "figure", price(...given));

const UNREAD = "It cannot be read now.";

/** Draw all tiles. @param answers {status, stats, ledger, model, monitoring}, each null if it could not be read */
export function drawNow(body, answers) {
  clearInterval(countdown);
  const title = body.querySelector("h2");
  const tiles = [priceTile(answers.stats), ...forecastTiles(answers.ledger), clockTile(answers), modelTile(answers.model, answers.status), checkTile(answers.monitoring)];
  body.replaceChildren(title, ...tiles);
}

function priceTile(stats) {
  if (!stats) return blank("Price", UNREAD);
  if (!stats.n) return blank("Price", "No candle is stored yet: a backfill is running or has to be started.");
  return tile("Price",
    priceFigure(stats.close),
    text("p", `sub ${stats.change < 0 ? "worse" : "better"}`, `${signed(stats.change_percent, 2, "%")} in ${span(stats.hours * 3600)}`),
    facts([["low", price(stats.min)], ["high", price(stats.max)]]));
}

function forecastTiles(ledger) {
  if (!ledger) return [blank("Next close", UNREAD)];
  const forecast = ledger.forecasts.at(-1);
  if (!forecast) return [blank("Next close", "No forecast yet: ingest asks for the first once a model is served.")];
  const move = 1e4 * (forecast.close / forecast.baseline_close - 1);
  const up = forecast.probability_up;
  const next = tile(ahead("close", forecast),
    priceFigure(forecast.close),
    text("p", "sub", forecast.abstained ? `abstained: ${forecast.reason}` : `${signed(move, 1, "bp")} from the last close`),
    facts([["90 % low", price(forecast.close_lower)], ["90 % high", price(forecast.close_upper)]]));
  const range = tile(ahead("candle", forecast),
    priceFigure(forecast.amplitude, forecast.close),
    text("p", "sub", "amplitude, high − low"),
    facts([["open", price(forecast.open)], ["high", price(forecast.high)], ["low", price(forecast.low)]]));
  const expected = up >= 0.5 ? "rise" : "fall";
  const chance = tile("Probability up",
    text("p", `figure ${up >= 0.5 ? "better" : "worse"}`, percent(up)),
    element("progress", { class: "chance", max: 1, value: up, "aria-label": `probability of a rise ${percent(up)}` }),
    text("p", "sub", `${expected} expected; base rate ${percent(forecast.baseline_up)}`));
  return [next, range, chance];
}

function clockTile({ ledger, status }) {
  if (!ledger || !status) return blank("Closes in", UNREAD);
  const forecast = ledger.forecasts.at(-1);
  if (!forecast) return blank("Closes in", "There is no forecast to wait for.");
  const [opens, closes] = [Date.parse(forecast.open_time), Date.parse(forecast.close_time)];
  const left = text("p", "figure", "");
  const bar = element("progress", { max: 1, value: 0, "aria-label": "part of the time to its close that has passed" });
  const length = closes - opens;
  const wait = forecast.horizon * length;
  const rest = () => closes - exchangeNow(forecast, status.speed);
  const isOverdue = rest() < -length; // at the time of reading; not while the page waits for its next poll
  const show = () => {
    left.textContent = rest() > 0 ? clock(rest() / 1000) : isOverdue ? "overdue" : "due";
    bar.value = Math.min(1, Math.max(0, 1 - rest() / wait));
  };
  show();
  countdown = setInterval(show, 500);
  const pace = { 0: " · the exchange's clock is stopped", 1: "" }[status.speed] ?? ` · at ${fixed(status.speed, 0)} times the market's speed`;
  return tile("Closes in", left, bar,
    text("p", "sub", `${dayTime(opens)} to ${hhmm(closes)}${isOverdue ? ": no candle has arrived since" : pace}`));
}

function clock(seconds) {
  const whole = Math.ceil(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return (parts[0] ? parts : parts.slice(1)).map((part, at) => (at ? String(part).padStart(2, "0") : part)).join(":");
}

function modelTile(model, status) {
  if (!model) return blank("Serving", UNREAD);
  const champion = model.models.champion;
  if (!champion) {
    return blank("Serving", model.not_ready ?? "No champion yet: train and promote a model; it is then served within seconds.");
  }
  const problems = Object.entries(model.problems).map(([where, why]) => text("p", "sub worse", `${where}: ${why.slice(0, 90)}`));
  const behind = status?.newest_candle ? Date.parse(status.newest_candle) - Date.parse(champion.trained_until) : null;
  return tile("Serving",
    element("p", { class: "figure" }, `v${champion.version} `, element("small", {}, champion.family)),
    text("p", "sub", behind === null ? `trained ${ago(champion.created_at, now())}` : `trained until ${span(Math.max(0, behind) / 1000)} before the newest`),
    facts([["challenger", model.models.challenger ? `v${model.models.challenger.version}` : "none"]]),
    ...problems);
}

function checkTile(monitoring) {
  if (!monitoring) return blank("Last check", UNREAD);
  const last = monitoring.checks[0];
  if (!last) return blank("Last check", "No check has run yet; the monitor flow does the first.");
  const open = monitoring.alerts.filter((alert) => alert.state === "open").length;
  return tile("Last check",
    element("p", { class: "figure" }, state(last.verdict)),
    text("p", "sub", `${dayTime(last.checked_at)}: ${last.reasons[0] ?? ""}`),
    facts([["open alerts", String(open)]]));
}
