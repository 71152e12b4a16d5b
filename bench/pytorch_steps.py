"""Training steps in plain PyTorch, to be timed beside ours by bench/pytorch.ts.

    python3 pytorch_steps.py WORKLOAD FILE THREADS

WORKLOAD is `blocks` or a family; `mamba-by-index` is Mamba with the other of the two scans below.

FILE is a safetensors file with the parameters under our names, `given.spectrogram` and `given.mask`
(or `given.x` and `given.target` for `blocks`). Lines on standard input are commands: `step` runs one
step of AdamW and answers {"loss": L, "ms": T}; `means NAME...` writes the first moments of those
parameters to the file FILE.means, float32 and row-major, and answers {}. The end of input ends it.
"""
import json
import math
import struct
import sys
import time

import torch
import torch.nn.functional as F

RATE, BETAS, EPSILON = 1e-4, (0.9, 0.95), 1e-8
TOKENS_FIRST = (4, 16)  # frames and bands of a patch


def read(path):
    """The tensors of a safetensors file, all of them float32."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = bytearray(file.read())
    tensors = {}
    for name, of in header.items():
        begin, end = of["data_offsets"]
        flat = torch.frombuffer(data, dtype=torch.float32, offset=begin, count=(end - begin) // 4)
        tensors[name] = flat.reshape(of["shape"]).clone()
    return tensors


def linear(p, at, x):
    return F.linear(x, p[at + ".weight"], p.get(at + ".bias"))


def norm(p, at, x, eps=1e-6):
    return F.layer_norm(x, x.shape[-1:], p[at + ".weight"], p[at + ".bias"], eps)


def heads_of(x, heads):
    batch, tokens, channels = x.shape
    return x.reshape(batch, tokens, heads, channels // heads).transpose(1, 2)


def attention(p, at, x, heads):
    batch, tokens, dim = x.shape
    roles = linear(p, at + ".qkv_layer", x).reshape(batch, tokens, 3, heads, dim // heads)
    q, k, v = roles.permute(2, 0, 3, 1, 4).unbind(0)
    if hasattr(F, "scaled_dot_product_attention"):
        y = F.scaled_dot_product_attention(q, k, v)
    else:
        y = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, -1) @ v
    return linear(p, at + ".proj_layer", y.transpose(1, 2).reshape(batch, tokens, dim))


def transformer_block(p, at, x, _, heads=3):
    x = x + attention(p, at + ".attn", norm(p, at + ".norm1", x), heads)
    hidden = F.gelu(linear(p, at + ".mlp.layer1", norm(p, at + ".norm2", x)))
    return x + linear(p, at + ".mlp.layer2", hidden)


def causal_conv(p, at, x):
    weight = p[at + ".weight"]
    channels, _, taps = weight.shape
    y = F.conv1d(x.transpose(1, 2), weight, p[at + ".bias"], padding=taps - 1, groups=channels)
    return y[..., : x.shape[1]].transpose(1, 2)


def scan_by_index(u, delta, A, B, C):
    """The recurrence as its equations stand: a loop over tokens that indexes what each step reads."""
    h = u.new_zeros(u.shape[0], *A.shape)
    ys = []
    for t in range(u.shape[1]):
        decay = torch.exp(delta[:, t].unsqueeze(-1) * A)
        h = decay * h + (delta[:, t] * u[:, t]).unsqueeze(-1) * B[:, t].unsqueeze(1)
        ys.append((h * C[:, t].unsqueeze(1)).sum(-1))
    return torch.stack(ys, 1)


def selective_scan(u, delta, A, B, C):
    """The same loop, written for speed: gradients of indexing are whole arrays, of unbinding not."""
    decay = torch.exp(delta.unsqueeze(-1) * A).unbind(1)
    into = ((delta * u).unsqueeze(-1) * B.unsqueeze(2)).unbind(1)
    h = torch.zeros_like(decay[0])
    ys = []
    for a, b, c in zip(decay, into, C.unsqueeze(2).unbind(1)):
        h = a * h + b
        ys.append((h * c).sum(-1))
    return torch.stack(ys, 1)


def mamba_block(p, at, x, _, scan=selective_scan):
    mixer = at + ".mixer"
    u, z = linear(p, mixer + ".in_proj", norm(p, at + ".norm", x)).chunk(2, -1)
    u = F.silu(causal_conv(p, mixer + ".conv1d", u))
    A = -torch.exp(p[mixer + ".A_log"])
    state = A.shape[1]
    all_three = linear(p, mixer + ".x_proj", u)
    dt, B, C = all_three.split([all_three.shape[-1] - 2 * state, state, state], -1)
    delta = F.softplus(linear(p, mixer + ".dt_proj", dt))
    y = scan(u, delta, A, B, C) + u * p[mixer + ".D"]
    return x + linear(p, mixer + ".out_proj", y * F.silu(z))


def headwise(p, at, x):
    weight = p[at + ".weight"]
    groups, _, size = weight.shape
    return torch.einsum("btgi,goi->btgo", x.reshape(*x.shape[:2], groups, size), weight).flatten(2)


def mlstm(q, k, v, input_gate, forget_gate):
    """The parallel form: all pairs of tokens."""
    tokens, size = q.shape[2:]
    sums = torch.cumsum(F.logsigmoid(forget_gate), -1)
    logs = sums.unsqueeze(-1) - sums.unsqueeze(-2) + input_gate.unsqueeze(-2)
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    logs = logs.masked_fill(~causal, -math.inf)
    top = logs.amax(-1, keepdim=True).detach()
    scores = q @ (k * size**-0.5).transpose(-2, -1) * torch.exp(logs - top)
    normaliser = torch.maximum(scores.sum(-1, keepdim=True).abs(), torch.exp(-top)) + 1e-6
    return scores @ v / normaliser


def xlstm_block(p, at, x, k, heads=4):
    back = k % 2 == 1
    if back:
        x = x.flip(1)
    layer = at + ".layer"
    h = F.layer_norm(x, x.shape[-1:], 1 + p[at + ".norm.weight"], None, 1e-5)
    u, z = linear(p, layer + ".proj_up", h).chunk(2, -1)
    convolved = F.silu(causal_conv(p, layer + ".conv1d.conv", u))
    q = headwise(p, layer + ".q_proj", convolved)
    key = headwise(p, layer + ".k_proj", convolved)
    v = headwise(p, layer + ".v_proj", u)
    cell = layer + ".mlstm_cell"
    together = torch.cat([q, key, v], -1)
    gates = [linear(p, f"{cell}.{name}", together).transpose(1, 2) for name in ("igate", "fgate")]
    y = mlstm(*(heads_of(part, heads) for part in (q, key, v)), *gates)
    y = F.layer_norm(y, y.shape[-1:], None, None, 1e-5).transpose(1, 2).flatten(2)
    y = y * (1 + p[cell + ".outnorm.weight"])
    y = (y + p[layer + ".learnable_skip"] * convolved) * F.silu(z)
    x = x + linear(p, layer + ".proj_down", y)
    return x.flip(1) if back else x


def mamba_block_by_index(p, at, x, _):
    return mamba_block(p, at, x, _, scan_by_index)


BLOCKS = {
    "transformer": transformer_block,
    "mamba": mamba_block,
    "mamba-by-index": mamba_block_by_index,
    "xlstm": xlstm_block,
}


def patches(x):
    """[batch, time, mel] as [batch, token, pixel], time first in both."""
    batch, time_frames, mels = x.shape
    frames, bands = TOKENS_FIRST
    cut = x.reshape(batch, time_frames // frames, frames, mels // bands, bands)
    return cut.permute(0, 1, 3, 2, 4).reshape(batch, -1, frames * bands)


def depth_of(p):
    return 1 + max(int(name.split(".")[1]) for name in p if name.startswith("blocks."))


def encoder_loss(workload):
    block = BLOCKS[workload]

    def loss(p):
        target = patches(p["given.spectrogram"])
        table = p["pos_embed"][0]
        weight = p["patch_embed.proj.weight"].flatten(1)
        x = F.linear(target, weight, p["patch_embed.proj.bias"]) + table[1:]
        # As published, the token that stands for a hidden patch has no position.
        x = torch.where(p["given.mask"].unsqueeze(-1) == 1, p["mask_token"][0, 0], x)
        first = (p["cls_token"][0, 0] + table[0]).expand(x.shape[0], 1, -1)
        x = torch.cat([first, x], 1)
        for k in range(depth_of(p)):
            x = block(p, f"blocks.{k}", x, k)
        x = norm(p, "encoder_norm", x)
        y = linear(p, "pred.2", F.gelu(linear(p, "pred.0", x)))[:, 1:]
        return F.mse_loss(y, target)

    return loss


def blocks_loss(p):
    x = p["given.x"]
    for k in range(depth_of(p)):
        x = transformer_block(p, f"blocks.{k}", x, k)
    return F.mse_loss(x, p["given.target"])


def adam_w(p, **options):
    """What is trained, by name, and its optimiser; biases and vectors do not decay."""
    trained = {name: of for name, of in p.items() if not name.startswith("given.")}
    trained.pop("pos_embed", None)
    for of in trained.values():
        of.requires_grad_(True)
    plain = [of for name, of in trained.items() if of.ndim < 2 or name.endswith(".bias")]
    decayed = [of for name, of in trained.items() if of.ndim > 1 and not name.endswith(".bias")]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    return trained, torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPSILON, **options)


def main():
    workload, path, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    p = read(path)
    trained, optimiser = adam_w(p, foreach=True)
    loss_of = blocks_loss if workload == "blocks" else encoder_loss(workload)
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        command, *names = line.split()
        if command == "step":
            began = time.perf_counter()
            optimiser.zero_grad(set_to_none=True)
            loss = loss_of(p)
            loss.backward()
            optimiser.step()
            ms = 1000 * (time.perf_counter() - began)
            print(json.dumps({"loss": loss.item(), "ms": ms}), flush=True)
        else:
            with open(path + ".means", "wb") as file:
                for name in names:
                    moment = optimiser.state[trained[name]]["exp_avg"]
                    file.write(moment.contiguous().numpy().tobytes())
            print("{}", flush=True)


if __name__ == "__main__":
    main()
