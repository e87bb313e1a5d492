"""Registered model versions in MLflow: aliases, bundles, runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from candlecast.bundle.manifest import MANIFEST, bundle_sha256
from candlecast.errors import BundleError, ModelNotFound, RegistryUnavailable
from candlecast.market import Market
from candlecast.registry.artifacts import download_files
from candlecast.registry.cache import cache_bundle, cached_bundle, cached_run, delete_cached_bundle
from candlecast.registry.identity import BUNDLE_SHA256, RegisteredVersion
from candlecast.registry.machine_load import MachineLoad
from candlecast.registry.run_log import BUNDLE_PATH, RunLog, delete_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

CHAMPION = "champion"
CHALLENGER = "challenger"
_NO_RUN = "none, registered"


def experiment_name(market: Market) -> str:
    """Name the MLflow experiment of a market's trainings."""
    return f"candlecast/{market.model_name}"


class Registry:
    """A client of the MLflow registry; it fails early, so that callers decide about retries."""

    def __init__(self, tracking_uri: str, timeout_s: float = 5, retries: int = 1) -> None:
        self.tracking_uri = tracking_uri
        self._timeout_s = timeout_s
        self._retries = retries
        self._client: MlflowClient | None = None
        self._changed: dict[str, tuple[int, int]] = {}

    def __getstate__(self) -> dict[str, object]:
        """Return the state without the connection; another process opens its own."""
        return self.__dict__ | {"_client": None}

    def aliases(self, model_name: str) -> dict[str, str]:
        """Return the version number under each alias; empty if the model has none or does not exist.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        try:
            with self._connected() as client:
                model = client.get_registered_model(model_name)
        except ModelNotFound:
            return {}
        self._changed[model_name] = (int(model.creation_timestamp or 0), int(model.last_updated_timestamp or 0))
        return {alias: str(number) for alias, number in model.aliases.items()}  # integers without a server

    def changed_at(self, model_name: str) -> tuple[int, int] | None:
        """Return when the model was created and last changed, as the last `aliases` read it.

        While both stay, no number became another version's.
        """
        return self._changed.get(model_name)

    def version(self, model_name: str, number: str) -> RegisteredVersion:
        """Return one version.

        Raises:
            ModelNotFound: The version does not exist.
            RegistryUnavailable: MLflow does not answer.
        """
        with self._connected() as client:
            return _registered(client.get_model_version(model_name, number))

    def versions(self, model_name: str) -> list[RegisteredVersion]:
        """Return all versions, newest first."""
        with self._connected() as client:
            found = client.search_model_versions(f"name = '{model_name}'")
            newest_first = sorted(found, key=lambda version: int(version.version), reverse=True)
            return [_registered(one) for one in newest_first]

    def newest_version(self, model_name: str) -> RegisteredVersion | None:
        """Return the newest version, or None without versions."""
        return next(iter(self.versions(model_name)), None)

    def register(self, model_name: str, run_id: str, tags: dict[str, str]) -> str:
        """Register the bundle among a run's artifacts, and return the version's number.

        A run has at most one version, so registering again after a crash gives the same number.
        """
        import mlflow

        with self._connected() as client:
            try:
                client.get_registered_model(model_name)
            except mlflow.MlflowException as exc:
                if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                client.create_registered_model(model_name)
            known = client.search_model_versions(f"name = '{model_name}' and run_id = '{run_id}'")
            if known:
                return str(known[0].version)
            run = client.get_run(run_id)
            tags = tags | {key: value for key, value in run.data.tags.items() if key == BUNDLE_SHA256}
            created = client.create_model_version(
                model_name, f"{run.info.artifact_uri}/{BUNDLE_PATH}", run_id, tags=tags, await_creation_for=0
            )
            return str(created.version)

    def set_alias(self, model_name: str, alias: str, number: str) -> None:
        """Point `alias` at a version."""
        with self._connected() as client:
            client.set_registered_model_alias(model_name, alias, number)

    def delete_alias(self, model_name: str, alias: str) -> None:
        """Delete `alias`, if it exists."""
        with self._connected() as client:
            client.delete_registered_model_alias(model_name, alias)

    def tag(self, model_name: str, number: str, tags: dict[str, str]) -> None:
        """Set tags of a version."""
        with self._connected() as client:
            for key, value in tags.items():
                client.set_model_version_tag(model_name, number, key, value)

    def delete_version(self, model_name: str, number: str) -> None:
        """Delete a version from the registry; its run stays."""
        with self._connected() as client:
            client.delete_model_version(model_name, number)

    def delete_runs(self, experiment: str, before: datetime, kept: Collection[str]) -> int:
        """Delete runs and artifacts of an experiment that ended before a moment, and return their number.

        Args:
            before: By the clock of the machine that ran them.
        """
        with self._connected() as client:
            return delete_runs(client, experiment, before, kept)

    def fetch(self, model_name: str, number: str, cache: Path) -> Path:
        """Return the directory of a version's bundle in `cache`, after a download if necessary.

        The directory gets its name when it is complete. A cached bundle is used if it is of the version's run and has
        the digest that the version was registered with, or if MLflow does not answer or no longer has the version.

        Raises:
            ModelNotFound: The version or its artifacts do not exist.
            BundleError: The version is not a bundle, or its files were replaced after it was registered.
            RegistryUnavailable: MLflow does not answer.
        """
        directory = cached_bundle(cache, model_name, number)
        try:
            version = self.version(model_name, number)
            registered = version.bundle_sha256 or self._logged_digest(version.run_id)
        except (ModelNotFound, RegistryUnavailable):
            if directory.is_dir():
                return directory
            raise
        if directory.is_dir() and version.run_id == cached_run(directory):
            with suppress(BundleError):
                if registered in (None, bundle_sha256(directory)):
                    return directory
        delete_cached_bundle(cache, model_name, number)  # of a model that was deleted and created again
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".partial-") as partial:
            self._download(model_name, number, Path(partial))
            found = next(Path(partial).rglob(MANIFEST), None)
            if found is None:
                raise BundleError(f"{model_name} version {number} holds no {MANIFEST}; register one that train made")
            if registered is not None and (stored := bundle_sha256(found.parent)) != registered:
                raise BundleError(
                    f"{model_name} {version.identity.described}: its files were replaced after it was registered: "
                    f"SHA-256 {stored[:16]} of {MANIFEST}, registered with {registered[:16]}. Put the files back, or "
                    "register the new ones as a version of their own"
                )
            cache_bundle(found.parent, directory, version.run_id)
        return directory

    def stored_bundle(self, model_name: str, number: str) -> str | None:
        """Return the digest of the bundle that the artifact store holds for a version now; None without a bundle.

        Raises:
            RegistryUnavailable: MLflow or the artifact store does not answer.
        """
        with tempfile.TemporaryDirectory() as scratch, suppress(ModelNotFound):
            self._download(model_name, number, Path(scratch), MANIFEST)
            return bundle_sha256(next(Path(scratch).rglob(MANIFEST)).parent)
        return None

    def _download(self, model_name: str, number: str, directory: Path, name: str | None = None) -> None:
        """Download a version's files, or the one of a name."""
        with self._connected() as client:
            # MLflow would resolve models:/... through the process-wide registry.
            address = client.get_model_version_download_uri(model_name, number)
            download_files(address, directory, self.tracking_uri, name)

    def _logged_digest(self, run_id: str) -> str | None:
        """Return the digest of the bundle that a run logged, for a version that was registered by hand; else None."""
        if run_id.startswith(_NO_RUN):
            return None
        with suppress(ModelNotFound), self._connected() as client:
            return client.get_run(run_id).data.tags.get(BUNDLE_SHA256)
        return None

    def end_lost_runs(self, experiment: str, parent_run_id: str | None = None) -> int:
        """End the running runs of an experiment as killed, and return their number.

        Call it while no training runs, or, with `parent_run_id`, none below that run.
        """
        with self._connected() as client:
            found = client.get_experiment_by_name(experiment)
            if found is None:
                return 0
            running = "attributes.status = 'RUNNING'"
            if parent_run_id is not None:
                running += f" and tags.`mlflow.parentRunId` = '{parent_run_id}'"
            lost = client.search_runs([found.experiment_id], running)
            for run in lost:
                client.set_terminated(run.info.run_id, "KILLED")
            return len(lost)

    @contextmanager
    def run(
        self,
        experiment: str,
        name: str,
        parameters: Mapping[str, object],
        *,
        parent_run_id: str | None = None,
        continued_run_id: str | None = None,
    ) -> Iterator[RunLog]:
        """Log the body as an MLflow run, which ends as FAILED if the body raises.

        Args:
            continued_run_id: An interrupted run to continue, if it still exists.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        with self._connected() as client:
            run_id = self._reopened(client, continued_run_id)
            if run_id is None:
                tags = {"mlflow.source.name": "candlecast"}
                if parent_run_id is not None:
                    tags["mlflow.parentRunId"] = parent_run_id
                run_id = client.create_run(_experiment_id(client, experiment), tags=tags, run_name=name).info.run_id
            load = MachineLoad()
            log = RunLog(client, run_id, load)
            load.start()
            try:
                log.parameters(parameters)
                yield log
                load.stop()
                log.metrics({})
                client.set_terminated(run_id, "FINISHED")
            except BaseException:
                self._fail_run(client, run_id)
                raise
            finally:
                load.stop()

    def _reopened(self, client: MlflowClient, run_id: str | None) -> str | None:
        """Set a run to running again; None if it no longer exists."""
        from mlflow import MlflowException

        if run_id is None:
            return None
        try:
            client.update_run(run_id, status="RUNNING")
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run_id

    def _fail_run(self, client: MlflowClient, run_id: str) -> None:
        """End a run as FAILED, without retries, because the server may be unreachable."""
        from mlflow import MlflowException
        from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES

        os.environ[MLFLOW_HTTP_REQUEST_MAX_RETRIES.name] = "0"
        with suppress(MlflowException):
            client.set_terminated(run_id, "FAILED")

    @contextmanager
    def _connected(self) -> Iterator[MlflowClient]:
        import mlflow
        from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
        from mlflow.exceptions import MlflowException

        os.environ[MLFLOW_HTTP_REQUEST_MAX_RETRIES.name] = str(self._retries)
        os.environ[MLFLOW_HTTP_REQUEST_TIMEOUT.name] = str(max(1, round(self._timeout_s)))
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        if self._client is None:
            self._client = mlflow.MlflowClient(self.tracking_uri, registry_uri=self.tracking_uri)
        try:
            yield self._client
        except MlflowException as exc:
            if exc.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise ModelNotFound(f"MLflow at {self.tracking_uri}: {exc.message}") from exc
            raise RegistryUnavailable(f"MLflow at {self.tracking_uri}: {exc.message}") from exc


def _registered(found: MlflowVersion) -> RegisteredVersion:
    """Convert MLflow's answer; a version that was registered without a run is identified by its creation."""
    run_id = found.run_id or f"{_NO_RUN} {found.creation_timestamp}"
    return RegisteredVersion(str(found.version), run_id, dict(found.tags))


def _experiment_id(client: MlflowClient, name: str) -> str:
    """Return an experiment's id; create it if necessary, of the kind that shows trainings in MLflow."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name, tags={"mlflow.experimentKind": "custom_model_development"}))
