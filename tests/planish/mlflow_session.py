"""What `tests.planish.test_mlflow` does with MLflow's own packages, in a process of its own.

``python mlflow_session.py TRACKING_URL SERVICE_URL DIRECTORY`` prints what came of it as JSON.
"""

import json
import sys
from pathlib import Path

import mlflow
import onnx

import planish
from planish.integrations import mlflow as planish_mlflow


def main(tracking: str, service: str, directory: Path) -> None:
    """Log a model, have it compressed, and read what was logged of it."""
    mlflow.set_tracking_uri(tracking)
    with mlflow.start_run():
        model = onnx.load(directory / "model.onnx")
        mlflow.onnx.log_model(model, name="model", registered_model_name="net")
    with planish.Client(service) as client:
        version = planish_mlflow.compress(
            "models:/net/1",
            directory / "data.npz",
            steps=[{"method": "quantize", "mode": "dynamic", "force": True}],
            client=client,
        )
    run = mlflow.get_run(version.run_id)
    artifacts = mlflow.artifacts.list_artifacts(run_id=version.run_id)
    place = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/net/{version.version}")
    logged = onnx.load(Path(place) / "model.onnx")
    found = {
        "version": version.version,
        "tags": version.tags,
        "metrics": run.data.metrics,
        "artifacts": sorted(each.path for each in artifacts),
        "operators": sorted({node.op_type for node in logged.graph.node}),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
