-- Candles that were doubtful and that the exchange returned with the same values when it was asked again.
-- A confirmation holds for these values only: a corrected candle is judged like a new one.

create table candle_confirmations (
    symbol text not null,
    interval text not null,
    open_time timestamptz not null,
    open float8 not null,
    high float8 not null,
    low float8 not null,
    close float8 not null,
    volume float8 not null,
    confirmed_at timestamptz not null default clock_timestamp(),
    primary key (symbol, interval, open_time)
);

do $$
begin
    if exists (select from pg_roles where rolname = 'candlecast_writer') then
        grant select, insert, update, delete on candle_confirmations to candlecast_writer;
    end if;
    if exists (select from pg_roles where rolname = 'candlecast_reader') then
        grant select on candle_confirmations to candlecast_reader;
    end if;
end $$;
