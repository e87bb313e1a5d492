-- The same rows as before, each outcome looked up by its key. On a young table, and on a new month's partition, the
-- planner has no statistics, takes a market for a handful of rows, and would read all outcomes for each forecast.
-- `offset 0` keeps it from making a join of it.

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
where f.clocks_agree and not exists (
    select from candle_suspicions s
    where s.symbol = f.symbol and s.interval = f.interval and s.open_time in (f.open_time, f.last_open_time) offset 0
);
