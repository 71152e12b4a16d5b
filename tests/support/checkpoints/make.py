# Writes the checkpoints that tests read, with torch.save as published code does. Its arguments: a
# JSON file {family: [[name, shape], ...]} and a folder. The tests know the values: element i of
# tensor k is ((7 i + 13 k) mod 65 - 32) / 64, exact in every floating-point type.
import argparse
import json
import os
import sys
from collections import OrderedDict

import torch


def values(k, shape):
    count = 1
    for size in shape:
        count *= size
    return ((torch.arange(count) * 7 + 13 * k) % 65 - 32).float().div(64).reshape(shape)


torch.manual_seed(0)
models, folder = json.load(open(sys.argv[1])), sys.argv[2]
state = {
    family: OrderedDict((name, values(k, shape)) for k, (name, shape) in enumerate(named))
    for family, named in models.items()
}

torch.save(state["transformer"], f"{folder}/transformer.pth")

# As a training run saves itself: inside other values, from data parallelism, half precision; the
# mask token is missing, and a classifier is left over.
mamba = {f"module.{name}": value.half() for name, value in state["mamba"].items()}
del mamba["module.mask_token"]
mamba["module.head.weight"] = torch.ones(3, 8).half()
module = torch.nn.Linear(3, 2)
optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
module(torch.ones(1, 3)).sum().backward()
optimiser.step()
torch.save(
    {
        "model": mamba,
        "optimizer": optimiser.state_dict(),
        "epoch": 99,
        "args": argparse.Namespace(lr=1e-3, betas=(0.9, 0.95), name="mamba", resume=None, big=2**70),
    },
    f"{folder}/mamba.pth",
)

# The other protocol, parameters, and bfloat16.
torch.save(
    {
        "state_dict": OrderedDict(
            (name, torch.nn.Parameter(value.bfloat16())) for name, value in state["xlstm"].items()
        )
    },
    f"{folder}/xlstm.pth",
    pickle_protocol=4,
)

# Views of one storage, and every element type.
base = values(0, [4, 6])
torch.save(
    OrderedDict(
        base=base,
        transposed=base.t(),
        row=base[2],
        column=base[:, 1],
        steps=base[1:, ::2],
        expanded=base[:1, 3:4].expand(2, 3),
        tied=base,
        parameter=torch.nn.Parameter(values(1, [2, 2])),
        scalar=torch.tensor(0.25),
        empty=torch.zeros(0, 3),
        half=values(2, [5]).half(),
        halves=torch.tensor([65504.0, -0.0, 2.0**-24, 1023 * 2.0**-24, 2.0**-14]).half(),
        brain=torch.tensor([3.0e38, -(2.0**-130), 1.5]).bfloat16(),
        double=values(3, [5]).double(),
        long=torch.tensor([2**62, -1]),
        int=torch.tensor([-7, 7]).int(),
        short=torch.tensor([-300, 300]).short(),
        char=torch.tensor([-128, 127]).char(),
        byte=torch.tensor([0, 255]).byte(),
        bool=torch.tensor([True, False]),
        size=torch.Size([3, 4]),
    ),
    f"{folder}/views.pth",
)

# What is refused.
torch.save(base, f"{folder}/legacy.pth", _use_new_zipfile_serialization=False)
torch.jit.save(torch.jit.script(torch.nn.Identity()), f"{folder}/script.pt")
torch.save(module, f"{folder}/module.pth")


class Hostile:
    """What runs a command wherever it is loaded without care; this command does nothing."""

    def __reduce__(self):
        return os.system, ("true",)


torch.save({"model": {"w": base}, "x": Hostile()}, f"{folder}/hostile.pth")
