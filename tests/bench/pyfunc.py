"""The bundle as an MLflow model, for `mlflow models serve`: a frame of candles in, the close out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


class BundleModel(mlflow.pyfunc.PythonModel):
    """Answers with the very code of the service, so that what is compared is the server."""

    def load_context(self, context: Any) -> None:
        from candlecast.bundle.load import load_bundle

        self.bundle = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[float]:
        times = pd.to_datetime(model_input["open_time"], unit="ms", utc=True)
        forecasts = self.bundle.forecast(model_input.set_index(pd.DatetimeIndex(times)))
        return [float(forecasts.targets[0, 3])]


mlflow.models.set_model(BundleModel())
