"""SQL of prices, forecasts and series; every query is about one market, `symbol`, `interval` and `horizon`."""

from __future__ import annotations

_MARKET = "symbol = %(symbol)s and interval = %(interval)s"
_WINDOW = "open_time >= %(start)s and open_time < %(end)s"
_CANDLE = "open_time, open, high, low, close, volume, quote_volume, trades, taker_buy_base, taker_buy_quote"

CANDLES = f"""
select * from (
    select {_CANDLE} from candles where {_MARKET} and {_WINDOW}
    order by open_time desc limit %(limit)s
) as newest order by open_time
"""

# The newest candle is the clock here, because candles of a replay lie in the past.
_LAST_HOURS = f"""
{_MARKET} and open_time > (
    select max(open_time) from candles where {_MARKET}
) - make_interval(hours => %(hours)s)
"""

CANDLES_OF_HOURS = f"""
select * from (
    select {_CANDLE} from candles where {_LAST_HOURS}
    order by open_time desc limit %(limit)s
) as newest order by open_time
"""

PRICE_STATS = f"""
select count(*) as n,
       min(open_time) as start,
       max(open_time) + candle_length(%(interval)s) as end,
       (array_agg(open order by open_time))[1] as open,
       max(high) as max,
       min(low) as min,
       (array_agg(close order by open_time desc))[1] as close,
       avg(close) as average,
       stddev_samp(close) as deviation,
       avg(high - low) as average_amplitude,
       sum(volume) as volume,
       case when count(quote_volume) = count(*) then sum(quote_volume) end as quote_volume,
       case when count(trades) = count(*) then sum(trades) end as trades
from candles where {_LAST_HOURS}
"""

# Both queries find the newest open times by an index first, and then the rows of each by the primary key.
# On a young table without statistics the planner would read years, or join all rows with all.
_FORECASTS_WANTED = f"{_MARKET} and horizon = %(horizon)s and (%(role)s::text is null or role = %(role)s)"
_AT_MOMENT = f"{_MARKET} and open_time = m.open_time"

# `limit` counts target candles, so that a page never ends between the forecasts of two roles for one of them.
FORECASTS = f"""
with moments as materialized (
    select distinct open_time from forecasts where {_FORECASTS_WANTED} and {_WINDOW}
    order by open_time desc limit %(limit)s
)
select f.*, f.open_time + candle_length(f.interval) as close_time,
       o.reference_close, o.open as actual_open, o.high as actual_high, o.low as actual_low,
       o.close as actual_close, o.amplitude as actual_amplitude, o.settled_at
from moments m
cross join lateral (select * from forecasts where {_FORECASTS_WANTED} and open_time = m.open_time offset 0) f
left join lateral (
    select * from outcomes where {_AT_MOMENT} and horizon = %(horizon)s offset 0
) o on true
order by f.open_time, f.role
"""

SERIES = f"""
with moments as materialized (
    (select open_time from candles where {_MARKET} and {_WINDOW} order by open_time desc limit %(limit)s)
    union
    (select open_time from forecasts
     where {_MARKET} and horizon = %(horizon)s and role = %(role)s and {_WINDOW}
     order by open_time desc limit %(limit)s)
    order by open_time desc limit %(limit)s
)
select m.open_time,
       c.open, c.high, c.low, c.close, c.volume,
       exists (select from candle_suspicions where {_AT_MOMENT}) as doubtful,
       f.open as forecast_open, f.high as forecast_high, f.low as forecast_low, f.close as forecast_close,
       f.amplitude as forecast_amplitude, f.probability_up, f.model_version, f.issued_at, f.abstained,
       reference.close as reference_close
from moments m
left join lateral (select * from candles where {_AT_MOMENT} offset 0) c on true
left join lateral (
    select * from forecasts where {_AT_MOMENT} and horizon = %(horizon)s and role = %(role)s offset 0
) f on true
left join lateral (
    select close from candles where {_MARKET} and open_time = f.last_open_time offset 0
) reference on true
order by m.open_time
"""
