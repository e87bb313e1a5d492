-- As before, and without forecasts whose last candle had another close than the exchange's final one. Such a candle was
-- wrong and is corrected now; inputs and baseline of the forecast are still those of the wrong candle.

create or replace view settled_forecasts as
select f.*,
       o.reference_close,
       o.open as actual_open,
       o.high as actual_high,
       o.low as actual_low,
       o.close as actual_close,
       o.amplitude as actual_amplitude,
       o.settled_at,
       f.close - o.close as close_error,
       abs(f.close - o.close) / o.close as close_ape,
       abs(f.baseline_close - o.close) / o.close as baseline_close_ape,
       -- null where the market did not move: neither a hit nor a miss
       case when o.close <> o.reference_close
            then (f.probability_up >= 0.5) = (o.close > o.reference_close) end as direction_hit
from forecasts f
cross join lateral (
    select * from outcomes
    where (symbol, interval, open_time, horizon) = (f.symbol, f.interval, f.open_time, f.horizon) offset 0
) o
where f.clocks_agree and abs(f.baseline_close - o.reference_close) <= 1e-6 * o.reference_close
and not exists (
    select from candle_suspicions s
    where s.symbol = f.symbol and s.interval = f.interval and s.open_time in (f.open_time, f.last_open_time) offset 0
);
