# Loads a checkpoint written by this project into modules of PyTorch with the parts and names of the
# published encoders, saves them again beside it, and tells what matched. Arguments: the safetensors
# file (whose format is read here by hand) and a JSON of family, dim, depth, heads, state, tokens.
import json
import math
import struct
import sys

import torch
from torch import nn

path, sizes = sys.argv[1], json.loads(sys.argv[2])
dim, depth, state = sizes["dim"], sizes["depth"], sizes["state"]
heads, inner = sizes["heads"], sizes["expand"] * dim

data = open(path, "rb").read()
size = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8 : 8 + size])
header.pop("__metadata__")
state_dict = {}
for name, at in header.items():
    assert at["dtype"] == "F32", name
    begin, end = (8 + size + k for k in at["data_offsets"])
    numbers = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32)
    state_dict[name] = numbers.reshape(at["shape"])


class Parts(nn.Module):
    """A module with the given parts: modules, or the shapes of parameters."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            module = isinstance(part, nn.Module)
            setattr(self, name, part if module else nn.Parameter(torch.full(part, torch.nan)))


def linear(a, b, bias=True):
    return nn.Linear(a, b, bias=bias)


def transformer():
    return Parts(
        norm1=nn.LayerNorm(dim),
        attn=Parts(qkv_layer=linear(dim, 3 * dim), proj_layer=linear(dim, dim)),
        norm2=nn.LayerNorm(dim),
        mlp=Parts(layer1=linear(dim, 4 * dim), layer2=linear(4 * dim, dim)),
    )


def mamba():
    rank = math.ceil(dim / 16)
    return Parts(
        mixer=Parts(
            A_log=(inner, state),
            D=(inner,),
            in_proj=linear(dim, 2 * inner, False),
            conv1d=nn.Conv1d(inner, inner, 4, groups=inner),
            x_proj=linear(inner, rank + 2 * state, False),
            dt_proj=linear(rank, inner),
            out_proj=linear(inner, dim, False),
        ),
        norm=nn.LayerNorm(dim),
    )


def xlstm():
    headwise = {f"{name}_proj": Parts(weight=(inner // 4, 4, 4)) for name in "qkv"}
    return Parts(
        norm=Parts(weight=(dim,)),
        layer=Parts(
            learnable_skip=(inner,),
            proj_up=linear(dim, 2 * inner, False),
            **headwise,
            conv1d=Parts(conv=nn.Conv1d(inner, inner, 4, groups=inner)),
            mlstm_cell=Parts(
                igate=linear(3 * inner, heads),
                fgate=linear(3 * inner, heads),
                outnorm=Parts(weight=(inner,)),
            ),
            proj_down=linear(inner, dim, False),
        ),
    )


block = {"transformer": transformer, "mamba": mamba, "xlstm": xlstm}[sizes["family"]]
model = Parts(
    cls_token=(1, 1, dim),
    pos_embed=(1, 1 + sizes["tokens"], dim),
    mask_token=(1, 1, dim),
    patch_embed=Parts(proj=nn.Conv2d(1, dim, (4, 16), (4, 16))),
    encoder_norm=nn.LayerNorm(dim),
    pred=nn.Sequential(linear(dim, dim), nn.GELU(), linear(dim, 64)),
    blocks=nn.ModuleList([block() for _ in range(depth)]),
)
print(model.load_state_dict(state_dict, strict=True))
print(sum(parameter.numel() for parameter in model.parameters()))
torch.save(model.state_dict(), path + ".pth")
