-- Jobs of each horizon of a market run, fail and wait on their own. Runs recorded before were of horizon 1, or of one
-- that is unknown now.

alter table job_runs add column horizon int not null default 1 check (horizon >= 1);

drop index job_runs_symbol_interval_job_started_at_idx;
drop index job_runs_job_symbol_interval_idx;
create index on job_runs (symbol, interval, horizon, job, started_at desc);
create index on job_runs (job, symbol, interval, horizon) where status = 'running';
