#!/bin/sh
# Creates roles and databases; the image runs it once, on an empty volume.
set -eu

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv owner OWNER_PASSWORD
\getenv writer WRITER_PASSWORD
\getenv reader READER_PASSWORD
\getenv mlflow MLFLOW_PASSWORD
\getenv prefect PREFECT_PASSWORD
create role candlecast_owner login password :'owner';
create role candlecast_writer login password :'writer';
create role candlecast_reader login password :'reader';
create role mlflow login password :'mlflow';
create role prefect login password :'prefect';
create database candlecast owner candlecast_owner;
create database mlflow owner mlflow;
create database prefect owner prefect;
revoke connect, temporary on database candlecast, mlflow, prefect, postgres from public;
grant connect on database candlecast to candlecast_writer, candlecast_reader;
SQL
