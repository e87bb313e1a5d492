-- Candles as the exchange settled them, and every value that was ever replaced.

-- Not strict: PostgreSQL inlines it then, and a stored candle costs 3 us instead of 9 (docs/decisions/0006).
create function candle_length(name text) returns interval
language sql immutable parallel safe
return case right(name, 1)
    when 'm' then make_interval(mins => left(name, -1)::int)
    when 'h' then make_interval(hours => left(name, -1)::int)
    when 'd' then make_interval(days => left(name, -1)::int)
    when 'w' then make_interval(weeks => left(name, -1)::int)
end;

create table candles (
    symbol text not null,
    interval text not null,
    open_time timestamptz not null,
    open float8 not null,
    high float8 not null,
    low float8 not null,
    close float8 not null,
    volume float8 not null,
    quote_volume float8,
    trades float8,
    taker_buy_base float8,
    taker_buy_quote float8,
    source text not null,
    ingested_at timestamptz not null default clock_timestamp(),
    primary key (symbol, interval, open_time),
    constraint positive check (low > 0 and volume >= 0 and quote_volume >= 0 and trades >= 0
                               and taker_buy_base >= 0 and taker_buy_quote >= 0),
    -- NaN is greater than infinity in PostgreSQL: one comparison refuses both.
    constraint finite check (high < 'infinity' and volume < 'infinity' and quote_volume < 'infinity'
                             and trades < 'infinity' and taker_buy_base < 'infinity'
                             and taker_buy_quote < 'infinity'),
    constraint known_interval check (candle_length(interval) is not null),
    constraint low_is_lowest check (low <= least(open, close)),
    constraint high_is_highest check (high >= greatest(open, close)),
    -- Monday 1970-01-05 lies on the grid of every interval, weeks included.
    constraint on_grid check (open_time = date_bin(candle_length(interval), open_time, '1970-01-05 00:00:00+00'))
);

create table candle_revisions (
    id bigint generated always as identity primary key,
    symbol text not null,
    interval text not null,
    open_time timestamptz not null,
    open float8 not null,
    high float8 not null,
    low float8 not null,
    close float8 not null,
    volume float8 not null,
    quote_volume float8,
    trades float8,
    taker_buy_base float8,
    taker_buy_quote float8,
    source text not null,
    ingested_at timestamptz not null,
    replaced_at timestamptz not null default clock_timestamp()
);

create index on candle_revisions (symbol, interval, open_time);

create function keep_candle_revision() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    insert into candle_revisions (symbol, interval, open_time, open, high, low, close, volume, quote_volume,
                                  trades, taker_buy_base, taker_buy_quote, source, ingested_at)
    values (old.symbol, old.interval, old.open_time, old.open, old.high, old.low, old.close, old.volume,
            old.quote_volume, old.trades, old.taker_buy_base, old.taker_buy_quote, old.source, old.ingested_at);
    new.ingested_at := clock_timestamp();
    return new;
end $$;

create trigger keep_candle_revision before update on candles
for each row execute function keep_candle_revision();
