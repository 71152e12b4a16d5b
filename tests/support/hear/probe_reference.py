# Makes probe_reference.json with PyTorch: what hear-eval-kit's probe is, set up as published, on made-up
# embeddings. "steps": losses, weights and probabilities over some steps from given weights, without
# dropout. "scores": test scores of whole runs with grid, early stopping and folds, for ten seeds.
#   python3 probe_reference.py > probe_reference.json
import json
import math
import random

import torch
from torch import nn

# Threads that wait for each other take longer than such small products.
torch.set_num_threads(1)
GENERATOR = random.Random(7)


def rounded(rows, digits=4):
    return [[round(x, digits) for x in row] for row in rows]


def network(features, layers, hidden, classes, dropout):
    modules, width = [], features
    for k in range(layers):
        linear = nn.Linear(width, hidden)
        nn.init.xavier_normal_(linear.weight, gain=nn.init.calculate_gain("relu" if k else "linear"))
        modules += [linear, nn.BatchNorm1d(hidden), nn.Dropout(dropout), nn.ReLU()]
        width = hidden
    output = nn.Linear(width, classes)
    nn.init.xavier_normal_(output.weight, gain=nn.init.calculate_gain("relu" if layers else "linear"))
    return nn.Sequential(*modules, output)


def loss_of(prediction, logits, targets):
    if prediction == "multilabel":
        return nn.functional.binary_cross_entropy_with_logits(logits, targets)
    return nn.functional.cross_entropy(logits, targets.argmax(dim=1))


def probabilities(prediction, logits):
    return torch.sigmoid(logits) if prediction == "multilabel" else torch.softmax(logits, dim=1)


# Names of the network's parameters as models/probe.ts calls them.
def named(state, layers):
    names = {}
    for k in range(layers):
        names[f"{4 * k}."] = f"hidden.{k}."
        names[f"{4 * k + 1}."] = f"norm.{k}."
    names[f"{4 * layers}."] = "output."
    found = {}
    for key, value in state.items():
        start = key.split(".")[0] + "."
        if not key.endswith("num_batches_tracked"):
            found[names[start] + key[len(start):]] = value.flatten().tolist()
    return found


def steps(prediction, layers, rate):
    features, hidden, classes, clips, batch = 5, 7, 3, 11, 8
    torch.manual_seed(3)
    embeddings = rounded([[GENERATOR.gauss(0, 1) for _ in range(features)] for _ in range(clips)])
    labels = [
        [k for k in range(classes) if GENERATOR.random() < 0.4]
        if prediction == "multilabel" else [GENERATOR.randrange(classes)]
        for _ in range(clips)
    ]
    targets = torch.tensor([[float(k in of) for k in range(classes)] for of in labels])
    x = torch.tensor(embeddings)
    model = network(features, layers, hidden, classes, 0.0)
    first = named(model.state_dict(), layers)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    losses = []
    for _ in range(4):
        for start in range(0, clips, batch):
            rows = slice(start, start + batch)
            model.train()
            loss = loss_of(prediction, model(x[rows]), targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        said = probabilities(prediction, model(x))
    return {
        "prediction": prediction, "features": features, "layers": layers, "hidden": hidden,
        "classes": classes, "batch": batch, "rate": rate, "embeddings": embeddings,
        "labels": labels, "first": first, "losses": losses,
        "last": named(model.state_dict(), layers), "probabilities": said.flatten().tolist(),
    }


# ---------------------------------------------------------------- whole runs

FOLDS, PER_FOLD, FEATURES, CLASSES, HIDDEN, SEEDS = 3, 45, 10, 4, 256, 10
GRID = [{"dropout": 0.1, "rate": 1e-4}, {"dropout": 0.25, "rate": 1e-4}]


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        said = torch.softmax(model(x), dim=1)
    return (said.argmax(dim=1) == y).double().mean().item()


# One run with early stopping; gives the best validation and the test score there.
def fit(point, train, valid, test):
    model = network(FEATURES, 1, HIDDEN, CLASSES, point["dropout"])
    optimiser = torch.optim.Adam(model.parameters(), lr=point["rate"])
    best, tested, waited = -math.inf, None, 0
    for epoch in range(1, 501):
        model.train()
        loss = nn.functional.cross_entropy(model(train[0]), train[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if epoch % 3:
            continue
        now = accuracy(model, *valid)
        if now > best:
            best, tested, waited = now, accuracy(model, *test), 0
        else:
            waited += 1
            if waited >= 20:
                break
    return best, tested


def scores():
    centres = [[GENERATOR.gauss(0, 0.8) for _ in range(FEATURES)] for _ in range(CLASSES)]
    folds = []
    for _ in range(FOLDS):
        labels = [GENERATOR.randrange(CLASSES) for _ in range(PER_FOLD)]
        rows = rounded([[c + GENERATOR.gauss(0, 1) for c in centres[label]] for label in labels], 3)
        folds.append((labels, rows))
    tensors = [(torch.tensor(rows), torch.tensor(labels)) for labels, rows in folds]

    def parts(test):
        valid = (test + 1) % FOLDS
        others = [tensors[k] for k in range(FOLDS) if k not in (test, valid)]
        train = tuple(torch.cat([of[part] for of in others]) for part in (0, 1))
        return train, tensors[valid], tensors[test]

    found = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        results = [fit(point, *parts(0)) for point in GRID]
        chosen = max(range(len(GRID)), key=lambda k: results[k][0])
        tests = [results[chosen][1]] + [fit(GRID[chosen], *parts(k))[1] for k in range(1, FOLDS)]
        found.append(sum(tests) / FOLDS)
    return {
        "classes": CLASSES, "features": FEATURES, "hidden": HIDDEN,
        "folds": [{"labels": labels, "embeddings": rows} for labels, rows in folds],
        "scores": found,
    }


print(json.dumps({
    "steps": [steps("multiclass", 1, 0.01), steps("multilabel", 2, 0.003)],
    "scores": scores(),
}))
