"""The steps of steps.ts in PyTorch, on a CUDA device or else the CPU: losses and times.

    python3 pytorch_modes.py FOLDER OUT.jsonl

FOLDER holds FAMILY-BATCH.safetensors as steps.ts writes them; steps.jsonl beside OUT is what it measured.
Modes: eager; graph, the eager step replayed as one CUDA graph; compiled, by torch.compile; tf32, compiled
with products in TF32. Mamba's selective scan is the loop over tokens of pytorch_steps.py; under the
compiler it stays eager, as unrolling it takes minutes. What is slow to compile comes last, so that a time
limit takes least. With QUICK set, only the first mode, shortly.
"""
import glob
import importlib.util
import json
import os
import statistics
import sys
import time

import torch
import torch._dynamo

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.dont_write_bytecode = True
import pytorch_steps as bench

folder, out = sys.argv[1:3]
quick = os.environ.get("QUICK") is not None
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_default_device(device)
name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
has_ssm = importlib.util.find_spec("mamba_ssm") is not None
print(f"| PyTorch {torch.__version__} on {name}; mamba_ssm is {'' if has_ssm else 'not '}there, its scan is a loop |")
print("| step | batch | mode | loss | ms a step | ms on the device | prepare s | ours ms | times ours | losses differ |", flush=True)
ours = {}
try:  # what steps.ts measured on this machine, in f32
    with open(os.path.join(os.path.dirname(out), "steps.jsonl")) as file:
        for row in map(json.loads, file):
            if row["precision"] == "f32":
                ours[row["family"], row["batch"]] = row
except OSError:
    pass


def wait():
    if device == "cuda":
        torch.cuda.synchronize()


class Step:
    """One family at one batch: parameters as given, AdamW as in bench/pytorch_steps.py."""

    def __init__(self, family, path, mode):
        torch.set_default_device("cpu")  # the file's bytes are there
        p = bench.read(path)
        torch.set_default_device(device)
        self.p = p = {key: of.to(device) for key, of in p.items()}
        more = {"capturable": True} if device == "cuda" and mode == "graph" else {}
        how = {"fused": True} if device == "cuda" and mode != "graph" else {"foreach": True}
        _, self.optimiser = bench.adam_w(p, **how, **more)
        self.loss_of = bench.encoder_loss(family)
        if mode in ("compiled", "tf32"):
            self.loss_of = torch.compile(self.loss_of)
        self.graph = None

    def eager(self):
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss_of(self.p)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def capture(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self.eager()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.out = self.eager()

    def run(self):
        if self.graph is None:
            return self.eager()
        self.graph.replay()
        return self.out


def measure(family, batch, path, mode):
    torch.set_float32_matmul_precision("high" if mode == "tf32" else "highest")
    began = time.perf_counter()
    step = Step(family, path, mode)
    if mode == "graph":
        first = float("nan")
        step.capture()
    else:
        first = step.run().item()
    step.run()
    wait()
    prepare = time.perf_counter() - began
    wall, inner = [], []
    until = time.perf_counter() + (0.3 if quick else 1.2)
    while len(wall) < 3 or (time.perf_counter() < until and len(wall) < 60):
        if device == "cuda":
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            marks[0].record()
        began = time.perf_counter()
        loss = step.run()
        if device == "cuda":
            marks[1].record()
        loss.item()  # as ours: a step ends when its loss is here
        wall.append(1000 * (time.perf_counter() - began))
        if device == "cuda":
            inner.append(marks[0].elapsed_time(marks[1]))
    row = {
        "family": family, "batch": batch, "mode": mode, "loss": first, "ms": statistics.median(wall),
        "deviceMs": statistics.median(inner) if inner else None, "prepare": prepare, "device": name,
        "torch": torch.__version__,
    }
    with open(out, "a") as file:
        file.write(json.dumps(row) + "\n")
    shown = f"{row['deviceMs']:.2f}" if inner else ""
    beside = ours.get((family, batch))
    more = "" if beside is None else (
        f" {beside['ms']:.2f} | {row['ms'] / beside['ms']:.2f} | {abs(first / beside['loss'] - 1):.0e} |"
    )
    print(f"| {family} | {batch} | {mode} | {first:.5f} | {row['ms']:.2f} | {shown} | {prepare:.1f} |{more}", flush=True)


files = []
for path in glob.glob(folder + "/*.safetensors"):
    family, batch = os.path.basename(path)[: -len(".safetensors")].rsplit("-", 1)
    files.append((int(batch), ["transformer", "xlstm", "mamba"].index(family), family, path))
files.sort()
mid = [of for of in files if of[0] == 64] or files
rest = [of for of in files if of not in mid]
plan = [(mode, of) for mode in ("eager", "graph") for of in files if mode != "graph" or device == "cuda"]
if quick:
    plan = [of for of in plan if of[0] == "eager"]
else:
    plan += [(mode, of) for some in (mid, rest) for mode in ("compiled", "tf32") for of in some]
# Each block is a compilation of its own, as names of parameters are part of the code.
for limit in ("recompile_limit", "cache_size_limit"):
    if hasattr(torch._dynamo.config, limit):
        setattr(torch._dynamo.config, limit, 64)
# Unrolled by the compiler, the loop over tokens would take it minutes.
aside = torch.compiler.disable(bench.selective_scan)
blocks = {
    "as written": bench.mamba_block,
    "scan aside": lambda p, at, x, k: bench.mamba_block(p, at, x, k, aside),
}
for mode, (batch, _, family, path) in plan:
    bench.BLOCKS["mamba"] = blocks["scan aside" if mode in ("compiled", "tf32") else "as written"]
    try:
        measure(family, batch, path, mode)
    except Exception as error:  # the others still tell something
        print(f"| {family} | {batch} | {mode} | failed: {str(error).splitlines()[0][:150] if str(error) else type(error).__name__} |", flush=True)
    torch._dynamo.reset()
    if device == "cuda":
        torch.cuda.empty_cache()
