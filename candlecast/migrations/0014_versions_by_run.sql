-- Decisions and checks name the run of each version: a number becomes another version's after the model was deleted, or
-- an older database of MLflow restored. Rows of before get the run that forecast under their number. Where several
-- runs did, or none, the run stays unknown, and such a row counts for no version.

alter table promotions add column run_id text, add column predecessor_run_id text;
alter table monitoring_checks add column run_id text;

create table known_runs as
select model_name, model_version, min(run_id) as run_id from (
    select distinct symbol || '-' || interval || case horizon when 1 then '' else '-h' || horizon end as model_name,
           model_version, run_id
    from forecasts
) as forecast_by
group by model_name, model_version having count(*) = 1;

update promotions set run_id = known_runs.run_id from known_runs
where known_runs.model_name = promotions.model_name and known_runs.model_version = promotions.version;

update promotions set predecessor_run_id = known_runs.run_id from known_runs
where known_runs.model_name = promotions.model_name and known_runs.model_version = promotions.predecessor;

update monitoring_checks set run_id = known_runs.run_id from known_runs
where known_runs.model_version = monitoring_checks.model_version
  and known_runs.model_name = symbol || '-' || interval || case horizon when 1 then '' else '-h' || horizon end;

drop table known_runs;

-- No champion: a version is served and holds its limits, and its alias is gone from the registry.
alter table monitoring_checks
    drop constraint monitoring_checks_verdict_check,
    add constraint monitoring_checks_verdict_check
        check (verdict in ('healthy', 'drift', 'decay', 'data fault', 'too early', 'no champion'));

create index on promotions (model_name, version, run_id, id desc);
