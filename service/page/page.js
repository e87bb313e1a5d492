// Fetches what the service knows every few seconds and shows it; each panel says itself what it is missing.

import { drawChart } from "./chart.js";
import { ago, dayTime, fullTime, hhmm, percent, price, signed } from "./format.js";

const REFRESH_MS = 4000;
const CANDLES = 160;
const byId = (id) => document.getElementById(id);

/** The JSON at `path`; throws an Error with the service's own words if it refuses. */
async function read(path) {
  let response;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(8000) });
  } catch {
    throw new Error("The service does not answer. Is it running?");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(body.detail ?? `HTTP ${response.status}`), { status: response.status });
  return body;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const text = (name, className, content) => element(name, { class: className }, content);
const facts = (rows) => element("dl", {}, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
const state = (word) => element("span", { class: "state", "data-state": word }, word);

function show(id, ...children) {
  byId(id).replaceChildren(...children);
}

const fault = (error) => text("p", "fault", error.message);

function showNext(forecast) {
  const step = Date.parse(forecast.close_time) - Date.parse(forecast.open_time);
  const move = 1e4 * (forecast.close / forecast.baseline_close - 1);
  const target = `${dayTime(forecast.open_time)} to ${hhmm(Date.parse(forecast.open_time) + step)}`;
  const settled = forecast.actual ? [["it closed at", price(forecast.actual.close)]] : [];
  const up = forecast.probability_up;
  show("next",
    ...(forecast.abstained ? [text("p", "fault", `Abstained: ${forecast.reason}`)] : []),
    text("p", "figure", price(forecast.close)),
    text("p", "sub", forecast.abstained ? "the last close" : `close, ${signed(move, 1, "bp")} from the last`),
    facts([
      ["candle", target],
      ["90 % interval", `${price(forecast.close_lower)} to ${price(forecast.close_upper)}`],
      ["open", price(forecast.open)],
      ["high", price(forecast.high)],
      ["low", price(forecast.low)],
      ["amplitude", price(forecast.amplitude, forecast.close)],
      ["up / down", `${percent(up)} / ${percent(1 - up)}`],
      ...settled,
    ]),
    element("div", { class: "bars" },
      element("progress", { class: "own", max: 1, value: up, "aria-label": `probability of a rise ${percent(up)}` })));
}

function showError(rolling, issuing) {
  if (!rolling.n) {
    show("error", text("p", "quiet", "No forecast is settled yet: a figure appears when the first target candle has closed."));
    return;
  }
  const skill = 100 * rolling.close_skill;
  const error = 100 * rolling.close_skill_error;
  const [judgement, verdict] =
    Math.abs(skill) < 2 * error ? ["even", `± ${error.toFixed(2)} %: no different from persistence`]
    : skill > 0 ? ["better", "better than persistence"]
    : ["worse", "worse than persistence"];
  const most = Math.max(rolling.close_mape, rolling.persistence_mape);
  const bar = (name, value, own) => [
    element("label", {}, name, element("span", {}, `${value.toFixed(4)} %`)),
    element("progress", { class: own, max: most, value, "aria-label": name }),
  ];
  const figure = text("p", "figure", signed(skill, 2, "%"));
  figure.classList.add(judgement);
  show("error",
    figure,
    text("p", "sub", `${verdict}, over ${rolling.n} settled forecasts`),
    element("div", { class: "bars" },
      ...bar("MAPE of the champion", rolling.close_mape, "own"),
      ...bar("MAPE of the last close", rolling.persistence_mape, "other")),
    facts([
      ["direction right", `${percent(rolling.direction_accuracy)} of ${rolling.direction_n}`],
      ["amplitude skill", rolling.amplitude_skill === null ? "–" : signed(100 * rolling.amplitude_skill, 1, "%")],
      ["closes in the 90 % interval", percent(rolling.close_coverage)],
      ["issued after the last close", issuing.lateness_p95_s === null ? "–" : `95 % within ${issuing.lateness_p95_s.toFixed(1)} s`],
      ["due and never made", `${issuing.missed}`],
    ]));
}

function showModel(served, promotions) {
  const problems = Object.entries(served.problems).map(([where, why]) => element("p", { class: "fault", title: why }, text("span", "clipped", `${where}: ${why}`)));
  const champion = served.models.champion;
  if (!champion) {
    show("model", ...problems, text("p", "quiet", "No champion yet: train and promote a model; it is then served within seconds."));
    return;
  }
  const decision = promotions.find((one) => one.version === champion.version && one.alias === "champion");
  const challenger = served.models.challenger;
  show("model", ...problems,
    text("p", "figure", `Version ${champion.version}`),
    text("p", "sub", `${served.name} · ${champion.family}`),
    facts([
      ["trained", `${fullTime(champion.created_at)}`],
      ["on candles until", dayTime(Object.values(champion.spans).map((span) => span.end).sort().at(-1))],
      ["decided by", decision ? `${decision.decided_by}: ${decision.decision}` : "no record"],
      ["believed until", dayTime(champion.expires_at)],
      ["challenger", challenger ? `version ${challenger.version}` : "none"],
      ["run", champion.run_id.slice(0, 8)],
    ]));
}

function showCheck(checks) {
  if (!checks.length) {
    show("check", text("p", "quiet", "No check has run yet; the monitor flow does the first."));
    return;
  }
  const [last] = checks;
  const verdict = state(last.verdict);
  verdict.classList.add("figure");
  show("check",
    element("p", {}, verdict),
    text("p", "sub", dayTime(last.checked_at) + (last.action === "none" ? "" : ` · asked for: ${last.action}`)),
    element("ul", { class: "reasons" }, ...last.reasons.map((reason) => element("li", {}, reason))),
    ...last.reports.map((page) =>
      element("p", {}, element("a", { href: page }, page.replace(/.*-(\w+)\.html$/, "report on $1")))));
}

function showJobs(jobs) {
  if (!jobs.length) {
    show("jobs", text("p", "quiet", "No flow has run yet."));
    return;
  }
  show("jobs", facts(jobs.map((run) => {
    const outcome = element("span", { title: run.message }, state(run.status), ` ${ago(run.finished_at ?? run.started_at)}`);
    return [run.job, outcome];
  })));
}

const BADGES = { live: "LIVE · Binance", replay: "REPLAY · recorded candles", unknown: "source unknown" };

function showStatus(status) {
  byId("market").textContent = `${status.symbol} · ${status.interval} candles`;
  document.title = `${status.symbol} ${status.interval} · Candlecast`;
  const badge = byId("source");
  badge.dataset.source = status.source;
  badge.textContent = BADGES[status.source];
  byId("replay-notice").hidden = status.source !== "replay";
  const newest = status.newest_candle;
  const since = newest && status.source === "live" ? ` (${ago(newest)})` : "";
  byId("freshness").textContent = newest ? `newest candle opened ${fullTime(newest)}${since}` : "no candle stored yet";
  for (const name of ["mlflow", "prefect"]) showLink(byId(`link-${name}`), status.links[name]);
}

/** Other user interfaces listen on this machine: seen from another one, their host is this page's. */
function showLink(anchor, address) {
  const url = new URL(address);
  if (["127.0.0.1", "localhost"].includes(url.hostname)) url.hostname = location.hostname;
  anchor.href = url.href;
  anchor.hidden = false;
}

const DURATIONS = { m: 60e3, h: 3600e3, d: 86400e3, w: 604800e3 };

function showChart(history, forecasts) {
  if (!history.candles.length) {
    byId("chart").replaceChildren();
    byId("chart-caption").textContent = "No candle is stored yet: the backfill is on its way, or has not been started.";
    return;
  }
  const step = parseInt(history.interval, 10) * DURATIONS[history.interval.at(-1)];
  drawChart(byId("chart"), byId("chart-caption"), history.candles, forecasts, step);
}

/** Show `settled` with `draw`, or in the same place what kept it from being read. */
function panel(id, settled, draw) {
  if (settled.status === "rejected") show(id, fault(settled.reason));
  else draw(settled.value);
}

async function refresh() {
  const paths = ["/status", `/price/history?limit=${CANDLES}`, `/forecasts?role=champion&limit=${CANDLES}`, "/monitoring", "/model"];
  const [status, history, ledger, monitoring, models] = await Promise.allSettled(paths.map(read));
  if (status.status === "fulfilled") showStatus(status.value);
  else byId("freshness").textContent = "status cannot be read";
  const forecasts = ledger.value?.forecasts ?? [];
  if (history.status === "fulfilled") showChart(history.value, forecasts);
  else show("chart-caption", fault(history.reason));
  panel("next", ledger, () => {
    if (forecasts.length) showNext(forecasts.at(-1));
    else show("next", text("p", "quiet", "No forecast yet: ingest asks for the first once a model is served."));
  });
  panel("error", monitoring, (value) => showError(value.rolling, value.issuing.champion));
  panel("check", monitoring, (value) => showCheck(value.checks));
  panel("model", models, (value) => showModel(value, monitoring.value?.promotions ?? []));
  panel("jobs", status, (value) => showJobs(value.jobs));
}

async function keepFresh() {
  if (!document.hidden) await refresh();
  setTimeout(keepFresh, REFRESH_MS);
}

document.addEventListener("visibilitychange", () => document.hidden || refresh());
keepFresh();
