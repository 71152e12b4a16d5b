"""Writes metrics_vectors.json: scores as scikit-learn computes them when called as hear-eval-kit does,
and quantiles and intervals as SciPy computes them. Run once; the tests read the JSON."""
import json
import math
import pathlib
import warnings

import numpy as np
import scipy
import sklearn
from scipy import optimize, stats
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

warnings.simplefilter("ignore")
rng = np.random.default_rng(7)


def number(x):
    return float(x) if math.isfinite(x) else str(float(x))


def student(level, degrees):
    """stats.t.ppf of SciPy 1.10 has but ten digits; this is a root of its distribution function."""
    rough = stats.t.ppf((1 + level) / 2, degrees)
    return float(optimize.brentq(lambda t: stats.t.sf(t, degrees) - (1 - level) / 2, rough * 0.9, rough * 1.1, xtol=1e-14, rtol=1e-14))


def scored(name, scores, labels, classes):
    scores = np.asarray(scores, dtype=np.float32)
    targets = np.zeros((len(labels), classes), dtype=np.float32)
    for row, of in zip(targets, labels):
        row[of] = 1
    truth, guess = targets.argmax(1), scores.argmax(1)
    try:
        areas = roc_auc_score(targets, scores, average=None)
        auc = roc_auc_score(targets, scores, average="macro")
        d_prime = np.mean(stats.norm.ppf(areas) * np.sqrt(2.0))
    except ValueError:
        auc = d_prime = math.nan
    with np.errstate(all="ignore"):
        expected = {
            "top1_acc": np.mean(truth == guess),
            "pitch_acc": np.mean(truth == guess),
            "chroma_acc": np.mean(truth % 12 == guess % 12),
            "mAP": average_precision_score(targets, scores, average="macro"),
            "aucroc": auc,
            "d_prime": d_prime,
        }
    return {
        "name": name,
        "classes": classes,
        # Texts, so that a formatter leaves them on a line; numbers the shortest that are the same float32.
        "scores": " ".join(str(x) for x in scores.ravel()),
        "labels": ",".join(" ".join(str(k) for k in of) for of in labels),
        "expected": {key: number(value) for key, value in expected.items()},
        "confusion": confusion_matrix(truth, guess, labels=range(classes)).tolist().__str__(),
    }


def one_label(clips, classes):
    return [[k % classes] for k in rng.permutation(clips)]


def many_labels(clips, classes, share):
    return [list(np.flatnonzero(rng.random(classes) < share)) for _ in range(clips)]


def leaning(labels, classes, strength):
    scores = rng.normal(size=(len(labels), classes))
    for row, of in zip(scores, labels):
        row[of] += strength
    return scores


cases = []
for name, clips, classes, strength in [
    ("multiclass", 40, 5, 1.0),
    ("multiclass, chance", 30, 3, 0.0),
    ("pitches over three octaves", 72, 36, 1.5),
    ("two classes", 12, 2, 0.5),
    ("all right", 12, 4, 100.0),
    ("all wrong", 12, 3, -100.0),
]:
    labels = one_label(clips, classes)
    cases.append(scored(name, leaning(labels, classes, strength), labels, classes))
for name, clips, classes, share, digits in [
    ("multilabel", 50, 6, 0.3, 9),
    ("multilabel with ties", 50, 6, 0.3, 0),
    ("a few clips with ties", 8, 3, 0.5, 0),
]:
    labels = many_labels(clips, classes, share)
    cases.append(scored(name, leaning(labels, classes, 0.8).round(digits), labels, classes))
labels = many_labels(20, 4, 0.4)
cases.append(scored("all scores the same", np.zeros((20, 4)), labels, 4))
cases.append(scored("scores of either zero", np.where(rng.random((20, 4)) < 0.5, 0.0, -0.0), labels, 4))
cases.append(scored("tiny and huge scores", leaning(labels, 4, 1.0) * 10.0 ** rng.integers(-40, 38, (20, 4)), labels, 4))
labels = [[k for k in of if k != 2] for of in many_labels(20, 4, 0.5)]
cases.append(scored("a class without a clip", leaning(labels, 4, 1.0), labels, 4))
cases.append(scored("a clip", [[0.5, 0.25]], [[0]], 2))

samples = [rng.normal(0.6, 0.02, n).tolist() for n in (2, 3, 10, 10, 31)]
made = {
    "with": {"scikit-learn": sklearn.__version__, "scipy": scipy.__version__, "numpy": np.__version__},
    "cases": cases,
    "t": [
        [level, degrees, student(level, degrees)]
        for level in (0.5, 0.9, 0.95, 0.999)
        for degrees in (1, 2, 3, 4, 5, 9, 10, 29, 100, 999)
    ],
    "normal": [
        [float(p), number(stats.norm.ppf(p))]
        for p in [0, 1e-300, 1e-30, 1e-9, 1e-4, 1.3e-3, 1.4e-3, 0.02, 0.25, 0.4999, 0.5, 0.6, 0.975, 1 - 1e-9, 1]
    ],
    "intervals": [
        {
            "values": " ".join(map(str, values)),
            "mean": float(np.mean(values)),
            "halfWidth": float(np.mean(values) - stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))[0]),
        }
        for values in samples
    ],
}
out = pathlib.Path(__file__).with_name("metrics_vectors.json")
out.write_text(json.dumps(made) + "\n")
print(out.stat().st_size, {c["name"]: c["expected"] for c in cases})
