"""The registered model as MLflow serves it (models from code): prompts in, MP4s out.

MLflow runs this file when it loads a version; nothing is unpickled.
"""

import base64
import tempfile
from pathlib import Path

import mlflow
import pandas


class TextToVideo(mlflow.pyfunc.PythonModel):
    """Rows of ``prompt`` and, optionally, ``seed``; each answer is an MP4 file in base64."""

    def load_context(self, context):
        from reelmill.workspace import prepare_environment

        prepare_environment()
        self.pipeline = Path(context.artifacts["pipeline"])

    def predict(self, context, model_input: pandas.DataFrame, params=None) -> list[str]:
        from reelmill.single import generate_one

        answers = []
        for row in model_input.to_dict("records"):
            seed = row.get("seed")
            with tempfile.TemporaryDirectory() as folder:
                output = Path(folder) / "video.mp4"
                chosen = 0 if seed is None or pandas.isna(seed) else int(seed)
                generate_one(row["prompt"], output, self.pipeline, None, None, None, None, chosen, None)
                answers.append(base64.b64encode(output.read_bytes()).decode())
        return answers


mlflow.models.set_model(TextToVideo())
