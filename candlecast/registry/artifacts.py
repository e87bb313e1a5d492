"""Files of versions in MLflow's artifact store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from candlecast.errors import ModelNotFound


def download_files(address: str, directory: Path, tracking_uri: str, name: str | None = None) -> None:
    """Download all files of a folder of the artifact store, or the first file of a name there or in its folders.

    The files are listed first, because MLflow reports a missing file like a store that does not answer.

    Raises:
        ModelNotFound: There is no such file.
        MlflowException: The store does not answer.
    """
    import mlflow

    found = next((file for file in _files(address, tracking_uri) if name in (None, _last(file))), None)
    if found is None:
        raise ModelNotFound(f"no {name or 'file'} at {address} in the artifact store")
    mlflow.artifacts.download_artifacts(
        artifact_uri=address if name is None else found, dst_path=str(directory), tracking_uri=tracking_uri
    )


def _files(address: str, tracking_uri: str) -> Iterator[str]:
    """List the addresses of the files of a folder, then those of its folders."""
    import mlflow

    listed = mlflow.artifacts.list_artifacts(artifact_uri=address, tracking_uri=tracking_uri)
    for entry in sorted(listed, key=lambda entry: bool(entry.is_dir)):
        below = f"{address}/{_last(entry.path)}"
        if entry.is_dir:
            yield from _files(below, tracking_uri)
        else:
            yield below


def _last(path: str) -> str:
    return path.rpartition("/")[2]
