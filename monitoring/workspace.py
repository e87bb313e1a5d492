"""Workspace of Evidently's UI: a project per market, a run per page."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, UUID, uuid5

if TYPE_CHECKING:
    from evidently.core.report import Snapshot
    from starlette.types import ASGIApp

_RUNS = "snapshots"


def project_id(model_name: str) -> UUID:
    """Return the project of a model, which never changes."""
    return uuid5(NAMESPACE_URL, f"candlecast/{model_name}")


def run_id(model_name: str, page: str) -> UUID:
    """Return the run of a page, from the page's name without suffix."""
    return uuid5(project_id(model_name), page)


def add_run(workspace: Path, scratch: Path, model_name: str, page: str, snapshot: Snapshot) -> None:
    """Put a snapshot into the workspace, and replace an older one.

    Files are written in `scratch` and moved when they are complete. Evidently's UI does not start with an incomplete
    file, and does not notice files that are renamed within the workspace.
    """
    from evidently.legacy.utils import NumpyEncoder
    from evidently.sdk.models import ProjectModel

    snapshot.set_name(page)
    project = workspace / str(project_id(model_name))
    (project / _RUNS).mkdir(parents=True, exist_ok=True)
    if not (project / "metadata.json").exists():
        described = ProjectModel(id=project_id(model_name), name=model_name)
        _write(project / "metadata.json", scratch, json.dumps(described.dict(), cls=NumpyEncoder))
    run = project / _RUNS / f"{run_id(model_name, page)}.json"
    _write(run, scratch, json.dumps(snapshot.to_snapshot_model().dict(), cls=NumpyEncoder))


def keep_runs(workspace: Path, model_name: str, pages: Collection[str]) -> None:
    """Delete the model's runs that belong to none of the pages."""
    kept = {f"{run_id(model_name, page)}.json" for page in pages}
    for run in (workspace / str(project_id(model_name)) / _RUNS).glob("*.json"):
        if run.name not in kept:
            run.unlink(missing_ok=True)


def _write(path: Path, scratch: Path, text: str) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    draft = scratch / f"evidently-{os.getpid()}-{path.name}"
    draft.write_text(text)
    draft.replace(path)


def web_application(workspace: Path) -> ASGIApp:
    """Make Evidently's UI of a workspace."""
    from evidently.ui.service.app import create_app, get_config

    application: ASGIApp = create_app(get_config(workspace=str(workspace)))
    return application
