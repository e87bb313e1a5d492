-- What ran, what was decided, and who may read or write.

create table job_runs (
    id bigint generated always as identity primary key,
    job text not null,
    symbol text not null,
    interval text not null,
    status text not null check (status in ('running', 'completed', 'skipped', 'failed')),
    message text not null default '',
    rows bigint,
    as_of timestamptz,                      -- the exchange's clock when it began, where the job knows it
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    prefect_run_id text
);

create index on job_runs (symbol, interval, job, started_at desc);
create index on job_runs (job, symbol, interval) where status = 'running';

create table promotions (
    id bigint generated always as identity primary key,
    model_name text not null,
    version text not null,
    predecessor text,
    alias text not null,
    decision text not null check (decision in ('promoted', 'rejected')),
    reasons text[] not null,
    numbers jsonb not null,
    decided_by text not null check (decided_by in ('gate', 'person', 'rollback')),
    decided_at timestamptz not null default clock_timestamp()
);

create index on promotions (model_name, decided_at desc);

create table monitoring_checks (
    id bigint generated always as identity primary key,
    symbol text not null,
    interval text not null,
    horizon int not null,
    checked_at timestamptz not null,        -- the exchange's clock
    recorded_at timestamptz not null default clock_timestamp(),
    model_version text,
    verdict text not null check (verdict in ('healthy', 'drift', 'data fault', 'too early')),
    action text not null check (action in ('none', 'train')),
    reasons text[] not null,
    numbers jsonb not null,
    report text
);

create index on monitoring_checks (symbol, interval, horizon, checked_at desc);

do $$
declare
    role_name text;
begin
    foreach role_name in array array['candlecast_writer', 'candlecast_reader'] loop
        if not exists (select from pg_roles where rolname = role_name) then
            execute format('create role %I nologin', role_name);
        end if;
    end loop;
exception when insufficient_privilege then
    raise notice 'not allowed to create roles: one role will own, write and read';
    return;
end $$;

do $$
begin
    if exists (select from pg_roles where rolname = 'candlecast_writer') then
        grant select, insert, update on candles, outcomes, job_runs to candlecast_writer;
        grant delete on job_runs, monitoring_checks to candlecast_writer;  -- these are pruned
        grant select, insert on forecasts, promotions, monitoring_checks to candlecast_writer;
        grant select on candle_revisions, schema_migrations to candlecast_writer;
    end if;
    if exists (select from pg_roles where rolname = 'candlecast_reader') then
        grant select on candles, candle_revisions, forecasts, outcomes, job_runs, promotions,
                        monitoring_checks, schema_migrations to candlecast_reader;
    end if;
end $$;
