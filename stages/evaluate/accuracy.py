"""How often a model is right: greedy answers to held-out questions, each model asked with the prompt it was trained with.

Scores come with n and a 95 % interval, and beside the two rules of lm-eval, so that they can be compared with published ones
(PRACTICE 5). A text that was cut at the token limit is wrong, whatever it says.
"""

from __future__ import annotations

from kpod.runner import Context, Metric, Output, Prediction
from kpod.stages.evaluate._asking import Asking, Config


class Accuracy(Asking[Config]):
    """Predictions and a score for every model."""

    uses = "evaluate.accuracy"
    version = 2
    by_question = True
    predictions = Output(Prediction)
    metrics = Output(Metric)

    def run(self, ctx: Context[Config]) -> None:
        """Ask the model every question once, and score what it says."""
        from kpod.stages._lm.artifact import locate
        from kpod.stages._lm.judging import check_gold
        from kpod.stages.evaluate._scoring import prediction, said, score, summary

        questions = list(ctx.read(self.questions))
        check_gold(questions)
        files = locate(ctx, self.models)
        texts = said(ctx, files, questions)
        predictions = [
            prediction(question, text, model=files.digest)
            for question, text in zip(questions, texts, strict=True)
        ]
        metric = score(questions, predictions, model=files.digest, data=ctx.digest(self.questions))
        with ctx.write(self.predictions) as out:
            for one in predictions:
                out.add(one)
        with ctx.write(self.metrics) as out_metrics:
            out_metrics.add(metric)
        interval = {"accuracy": metric.accuracy, "low": metric.low, "high": metric.high}
        ctx.note("accuracy", {**interval, "n": metric.n})
        ctx.note("summary", summary(metric))
