"""The tiny models, as fixtures of these tests."""

from tests.runs.tiny_models import model_path, tiny_path

__all__ = ["model_path", "tiny_path"]
