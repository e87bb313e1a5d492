// A form that posts candles, and shows the forecast and the command for a terminal.

import { address, given, read } from "../api.js";
import { toBody } from "../csv.js";
import { element, facts, text } from "../dom.js";
import { dayTime, percent, price } from "../format.js";

const MOST_SHOWN = 4000; // characters; the whole of a long body would hide the rest

/** Build the form. @param market () => parameters of the market shown */
export function offerTrial(body, market) {
  const area = element("textarea", { rows: 7, id: "candles-pasted", spellcheck: "false", placeholder: "open_time,open,high,low,close,volume\n2025-09-30T12:00:00Z,112880.01,112931.5,112861.2,112913.92,41.27\n…" });
  const file = element("input", { type: "file", id: "candles-file", accept: ".csv,.json,text/csv,application/json" });
  const ask = element("button", { type: "button", class: "main", id: "ask" }, "Forecast");
  const fill = element("button", { type: "button", id: "fill" }, "Fill in the newest candles");
  const answer = element("div", { "aria-live": "polite", class: "answer" });
  body.replaceChildren(
    element("p", { class: "quiet" }, "Paste or drop closed candles, oldest first and without a gap: CSV with a heading, JSON, or Binance's klines."),
    element("label", { for: "candles-pasted", class: "unseen" }, "Candles as CSV or JSON"), area,
    element("div", { class: "buttons try-buttons" }, ask, fill, element("label", { for: "candles-file", class: "unseen" }, "A file of candles"), file),
    answer);
  const say = (...parts) => answer.replaceChildren(...parts);
  const guarded = (work) => async () => {
    try {
      await work();
    } catch (error) {
      say(text("p", "blank fault", error.problem?.row === undefined || error.problem.row === null ? error.message : `Row ${error.problem.row}: ${error.message}`));
    }
  };
  const take = async (chosen) => {
    area.value = await chosen.text();
    await guarded(() => forecast(market(), area.value, say))();
  };
  ask.addEventListener("click", guarded(() => forecast(market(), area.value, say)));
  fill.addEventListener("click", guarded(async () => {
    area.value = await newestAsCsv(market());
    say();
  }));
  file.addEventListener("change", () => file.files[0] && take(file.files[0]));
  area.addEventListener("dragover", (event) => event.preventDefault());
  area.addEventListener("drop", (event) => {
    const [dropped] = event.dataTransfer.files;
    if (!dropped) return;
    event.preventDefault();
    take(dropped);
  });
}

async function newestAsCsv(market) {
  const { models } = await read(address("/model", market));
  const needed = models.champion?.input.history ?? 200;
  const { candles } = await read(address("/price/history", { ...market, limit: needed }));
  const columns = ["open_time", "open", "high", "low", "close", "volume"];
  return [columns.join(), ...candles.map((candle) => columns.map((name) => candle[name]).join())].join("\n");
}

/** Forecast the market shown, unless the pasted text names another. */
async function forecast(market, pasted, say) {
  const body = toBody(pasted);
  const isNamed = ["market", "symbol", "interval"].some((name) => name in body);
  const posted = JSON.stringify(isNamed ? body : { ...given(market), ...body });
  say(text("p", "blank waiting", "requesting …"));
  const answer = await read("/predict", { method: "POST", headers: { "content-type": "application/json" }, body: posted });
  const command = `curl -s -X POST ${new URL("predict", document.baseURI)} -H 'content-type: application/json' -d '${posted}'`;
  const shown = element("textarea", { rows: 3, readonly: "", "aria-label": "The request as a curl command", class: "command" });
  shown.value = command.length > MOST_SHOWN ? `${command.slice(0, MOST_SHOWN)} …` : command;
  const copy = element("button", { type: "button" }, "Copy the whole command");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command);
    copy.textContent = "Copied";
  });
  say(
    ...(answer.abstained ? [text("p", "stale", `Abstained: ${answer.reason}`)] : []),
    element("div", { class: "columns" },
      facts([
        ["target candle", dayTime(answer.open_time)],
        ["close", price(answer.close)],
        ["90 %", `${price(answer.intervals.close[0])} to ${price(answer.intervals.close[1])}`],
        ["probability up", percent(answer.direction.up)],
      ]),
      facts([
        ["high", price(answer.high)], ["low", price(answer.low)],
        ["amplitude", price(answer.amplitude, answer.close)],
        ["by", `version ${answer.model.version}, ${answer.model.alias}`],
      ])),
    shown, element("div", { class: "buttons" }, copy));
}
