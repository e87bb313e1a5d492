-- What is missing, what is doubtful, and what the exchange told its callers.

create table candle_gaps (
    symbol text not null,
    interval text not null,
    start_time timestamptz not null,        -- half-open range of missing open times
    end_time timestamptz not null,
    state text not null check (state in ('open', 'repaired', 'outage')),
    found_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz not null default clock_timestamp(),
    primary key (symbol, interval, start_time, state),
    check (start_time < end_time)
);

-- A doubtful candle stays as it was received; whoever reads for training or monitoring leaves it out.
create table candle_suspicions (
    symbol text not null,
    interval text not null,
    open_time timestamptz not null,
    reasons text[] not null,
    found_at timestamptz not null default clock_timestamp(),
    primary key (symbol, interval, open_time)
);

-- One row for each address of an exchange, shared by all processes that call it.
create table exchange_limits (
    base_url text primary key,
    used_weight int not null default 0,
    weight_minute timestamptz not null default date_trunc('minute', clock_timestamp()),
    banned_until timestamptz
);

do $$
begin
    if exists (select from pg_roles where rolname = 'candlecast_writer') then
        grant select, insert, update, delete on candle_gaps, candle_suspicions to candlecast_writer;
        grant select, insert, update on exchange_limits to candlecast_writer;
    end if;
    if exists (select from pg_roles where rolname = 'candlecast_reader') then
        grant select on candle_gaps, candle_suspicions, exchange_limits to candlecast_reader;
    end if;
end $$;
