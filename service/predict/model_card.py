"""The answer of `GET /model`: the versions being served."""

from __future__ import annotations

import math
from datetime import timedelta

from candlecast.api.answers import InputContract, ModelsAnswer, ReplicaAnswer, ServedModelAnswer, SpanAnswer
from candlecast.candles.schema import FLOW_COLUMNS, OHLCV_COLUMNS
from service.models.readiness import Readiness
from service.models.reloader import ModelReloader
from service.models.replicas import Replica
from service.models.served import ServedModel
from service.predict.request import HISTORY_LIMIT, SERIES_LIMIT


def describe_models(readiness: Readiness, expiry: timedelta, reloader: ModelReloader) -> ModelsAnswer:
    """Describe the models of `reloader`, and what keeps the registry's newest state from being served."""
    replicas = reloader.replicas()
    not_ready = readiness.fault_of(reloader)
    return ModelsAnswer(
        name=reloader.market.model_name,
        models={alias: _describe(model, expiry) for alias, model in reloader.served.items()},
        previous=dict(reloader.previous),
        problems=dict(reloader.problems),
        ready=not_ready is None,
        not_ready=not_ready,
        replica=next((replica.name for replica in replicas if replica.is_me), ""),
        replicas=[
            ReplicaAnswer(name=replica.name, served=_numbers(replica), looked_at=replica.looked_at)
            for replica in replicas
        ],
        converged=len({tuple(sorted(replica.served.items())) for replica in replicas}) <= 1,
    )


def _numbers(replica: Replica) -> dict[str, str]:
    return {alias: version.number for alias, version in replica.served.items()}


def _describe(model: ServedModel, expiry: timedelta) -> ServedModelAnswer:
    manifest = model.bundle.manifest
    figures = {name: value if math.isfinite(value) else None for name, value in manifest.metrics.items()}
    epochs = figures.pop("epochs", None)
    return ServedModelAnswer(
        version=model.version,
        alias=model.alias,
        run_id=model.run_id,
        bundle_sha256=model.bundle_sha256,
        family=manifest.family,
        created_at=manifest.created_at,
        served_since=model.served_since,
        expires_at=manifest.trained_until + expiry,
        validation_start=max(span.start for span in manifest.spans.values()),
        trained_until=manifest.trained_until,
        samples=sum(span.rows for name, span in manifest.spans.items() if name != "refit"),
        epochs=None if epochs is None else round(epochs),
        val_loss=figures.pop("val_loss", None),
        feature_hash=manifest.feature_hash,
        input=InputContract(
            **manifest.market._asdict(),
            sequence_length=manifest.sequence_length,
            features=manifest.feature_set,
            history=manifest.history,
            history_limit=HISTORY_LIMIT,
            series_limit=SERIES_LIMIT,
            required_fields=("open_time", *OHLCV_COLUMNS),
            optional_fields=FLOW_COLUMNS,
        ),
        spans={name: SpanAnswer(**span.model_dump()) for name, span in manifest.spans.items()},
        metrics=figures,
    )
