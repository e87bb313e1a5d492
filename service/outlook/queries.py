"""SQL of the directions of settled forecasts of one market."""

from __future__ import annotations

_CLOSE_AT = "select close from candles where symbol = %(symbol)s and interval = %(interval)s and open_time ="

# The newest `limit` settled forecasts; `last_move` is the direction of the last candle used, null if unknown.
DIRECTIONS = f"""
with newest as materialized (
    select open_time, last_open_time, probability_up, baseline_up, actual_close > reference_close as rose
    from settled_forecasts
    where symbol = %(symbol)s and interval = %(interval)s and horizon = %(horizon)s and role = %(role)s
    and not abstained and direction_hit is not null
    order by open_time desc limit %(limit)s
)
select newest.*, sign(last.close - before.close)::int as last_move
from newest
left join lateral ({_CLOSE_AT} newest.last_open_time offset 0) last on true
left join lateral (
    {_CLOSE_AT} newest.last_open_time - candle_length(%(interval)s) offset 0
) before on true
order by open_time
"""
