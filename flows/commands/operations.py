"""Commands for a platform that `up` does not run: migrate, deploy, backup, restore."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import Json, progress, read_settings, say

app = typer.Typer()


@app.command()
def migrate(
    wait: Annotated[bool, typer.Option("--wait", help="Wait until another process has updated it.")] = False,
    as_json: Json = False,
) -> None:
    """Update the database's schema as its owner; safe to repeat."""
    from candlecast.database import migrate as apply_migrations
    from candlecast.database import open_database, wait_for_schema

    settings = read_settings()
    if wait:
        wait_for_schema(settings.database.url)
        say("the schema is up to date", as_json, applied=[])
        return
    with open_database(settings.database.owner_url or settings.database.url) as pool:
        applied = apply_migrations(pool)
    say(f"applied {', '.join(applied)}" if applied else "the schema is up to date", as_json, applied=applied)


@app.command()
def deploy(
    flow_runs: Annotated[
        Path | None, typer.Option(help="Directory of job.yaml and resources.yaml; flow runs are then Kubernetes Jobs.")
    ] = None,
    image: Annotated[str, typer.Option(help="Container image of those Jobs.")] = "",
    namespace: Annotated[str, typer.Option(help="Kubernetes namespace of those Jobs.")] = "",
) -> None:
    """Put the flows on Prefect's server, start their schedules, and train missing first versions."""
    from flows.deploy.cluster import Cluster, deploy_and_start

    if flow_runs is not None and not (image and namespace):
        raise typer.BadParameter("--flow-runs needs --image and --namespace")
    with progress("deploy") as report:
        deploy_and_start(read_settings(), Cluster(flow_runs, image, namespace) if flow_runs else None, report)


@app.command()
def backup(
    directory: Path,
    keep: Annotated[int, typer.Option(min=1, help="Number of newest backups to keep.")] = 14,
    as_json: Json = False,
) -> None:
    """Write a backup of databases and registry files below DIRECTORY; the platform may run."""
    from flows.jobs.backup import back_up, drop_old, report_backup

    settings = read_settings()
    dropped = drop_old(directory, max(1, keep - 1))  # first: on a full volume the new one would fail for ever
    made = back_up(settings, os.environ, directory)
    dropped += drop_old(directory, keep)
    if failure := report_backup(settings):
        print(failure, file=sys.stderr)
    say(f"{made}; deleted {len(dropped)} old backups", as_json, backup=made, dropped=dropped)


@app.command()
def restore(backup: Path, as_json: Json = False) -> None:
    """Restore BACKUP into empty databases that no other program uses."""
    from flows.jobs.backup import restore as bring_back

    restored = bring_back(read_settings(), os.environ, backup)
    say(f"restored {', '.join(restored)}", as_json, restored=restored)
