"""Predictions by what was trained: of texts on the command line, or of the rows of a file.

`target` finds the model and its recipe, `rows` reads what is to be predicted, `predictor` asks,
`abstaining` decides where no label is given, `output` writes, and `predict` is the story.
"""

from recipes.predicting.predict import Options, predict_file, predict_texts

__all__ = ["Options", "predict_file", "predict_texts"]
