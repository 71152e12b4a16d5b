"""Reads a folder of embeddings with NumPy by hear-eval-kit's rules and prints what it found as JSON."""
import csv
import json
import pathlib
import pickle
import random
import sys

import numpy as np

folder = pathlib.Path(sys.argv[1])
metadata = json.loads((folder / "task_metadata.json").read_text())
with open(folder / "labelvocabulary.csv", newline="", encoding="utf-8") as file:
    index = {row["label"]: int(row["idx"]) for row in csv.DictReader(file)}
assert sorted(index.values()) == list(range(len(index)))

# One generator for all splits, seeded once: the order in which the kit writes clips.
generator = random.Random()
generator.seed(0)
found = []
for split in metadata["splits"]:
    clips = list(json.loads((folder / f"{split}.json").read_text(encoding="utf-8")))
    generator.shuffle(clips)
    shape = tuple(json.loads((folder / f"{split}.embedding-dimensions.json").read_text()))
    rows = np.memmap(folder / f"{split}.embeddings.npy", dtype=np.float32, mode="r", shape=shape)
    assert (folder / f"{split}.embeddings.npy").stat().st_size == rows.nbytes
    with open(folder / f"{split}.target-labels.pkl", "rb") as file:
        labels = pickle.load(file)
    assert len(labels) == shape[0] and np.isfinite(rows).all()
    if metadata["prediction_type"] == "multiclass":
        assert all(len(of) == 1 for of in labels)
    found.append(
        {
            "split": split,
            "clips": clips,
            "rows": rows.tolist(),
            "labels": [[index[str(label)] for label in of] for of in labels],
        }
    )
assert (folder / ".done.embeddings").exists()
print(json.dumps(found))
