-- Forecasts beside what became of them. Left out is what a doubtful candle would falsify: forecasts of one, and
-- forecasts made from one, whose reference close and baseline it is. The ledger keeps them all; a repaired candle
-- brings them back.

create view settled_forecasts as
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
join outcomes o using (symbol, interval, open_time, horizon)
where not exists (
    select from candle_suspicions s
    where s.symbol = f.symbol and s.interval = f.interval and s.open_time in (f.open_time, f.last_open_time)
);

do $$
begin
    if exists (select from pg_roles where rolname = 'candlecast_writer') then
        grant select on settled_forecasts to candlecast_writer;
    end if;
    if exists (select from pg_roles where rolname = 'candlecast_reader') then
        grant select on settled_forecasts to candlecast_reader;
    end if;
end $$;
