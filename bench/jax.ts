// The workloads in jax-js, each as its users would write it: whole functions under `jit`, its own
// attention, softmax, norm and GELU, and gradients by `valueAndGrad`. A function owns its arguments,
// so whatever is used twice is taken with `.ref`.
import type * as Jax from "@jax-js/jax";
import type { Settle } from "./dawn.ts";
import type { LoadPeer, Running, Values } from "./peer.ts";
import { ADAMW, SIZES } from "./workloads.ts";

type Library = typeof Jax;
type Tensor = Jax.Array;
type Tensors = { readonly [name: string]: Tensor };
type Function = (given: Tensors) => Tensors;

// A name that is not a literal: the module graph does not need the package to be there.
const PACKAGE: string = "@jax-js/jax";

/** The functions of the blocks, from the names under which our parameters are given. */
const blocks = ({ numpy: np, nn }: Library) => {
  const { batch, token, channel, heads } = SIZES;
  const linear = (p: Tensors, at: string, x: Tensor): Tensor =>
    np.einsum("btc,oc->bto", x, p[`${at}.weight`]).add(p[`${at}.bias`]);
  const norm = (p: Tensors, at: string, x: Tensor): Tensor =>
    nn.standardize(x, -1, { epsilon: 1e-6 }).mul(p[`${at}weight`]).add(p[`${at}bias`]);
  const attention = (p: Tensors, at: string, x: Tensor): Tensor => {
    const all = linear(p, `${at}qkv_layer`, x)
      .reshape([batch, token, 3, heads, channel / heads]);
    const [q, k, v] = [all.ref.slice([], [], 0), all.ref.slice([], [], 1), all.slice([], [], 2)];
    const y = nn.dotProductAttention(q, k, v).reshape([batch, token, channel]);
    return linear(p, `${at}proj_layer`, y);
  };
  const block = (p: Tensors, at: string, x: Tensor): Tensor => {
    const h = x.ref.add(attention(p, `${at}attn.`, norm(p, `${at}norm1.`, x)));
    const hidden = nn.gelu(linear(p, `${at}mlp.layer1`, norm(p, `${at}norm2.`, h.ref)), {
      approximate: false,
    });
    return h.add(linear(p, `${at}mlp.layer2`, hidden));
  };
  return { norm, attention, block };
};

/** y as a function of what is given, for the workloads that are differentiated too. */
const forwards = (jax: Library): Readonly<Record<string, (p: Tensors) => Tensor>> => {
  const { numpy: np, nn } = jax;
  const { norm, attention, block } = blocks(jax);
  const product = ({ a, b }: Tensors) => np.matmul(a, b);
  return {
    "matmul 512": product,
    "matmul 1024": product,
    "matmul 2008x192x768": product,
    "attention scores": ({ q, k }) => np.einsum("bhqd,bhkd->bhqk", q, k),
    "attention values": ({ weights, v }) => np.einsum("bhqk,bhkd->bhqd", weights, v),
    "softmax": ({ x }) => nn.softmax(x, -1),
    "layer norm": (p) => norm(p, "", p.x),
    "gelu": ({ x }) => nn.gelu(x, { approximate: false }),
    "attention": (p) => attention(p, "", p.x),
    "block": (p) => block(p, "", p.x),
  };
};

/** The loss Σ y · g and its gradients, as one compiled function. */
const withGradients = (jax: Library, y: (p: Tensors) => Tensor): Function => {
  const { "given.g": _, ...none }: Tensors = {};
  void none;
  return (given) => {
    const { "given.g": g, ...p } = given;
    const loss = (p: Tensors, g: Tensor) => y(p).mul(g).sum();
    const [value, gradients] = jax.valueAndGrad(loss)(p, g) as unknown as [Tensor, Tensors];
    return {
      loss: value,
      ...Object.fromEntries(
        Object.entries(gradients).map(([key, of]) => [`gradient of ${key}`, of]),
      ),
    };
  };
};

/** Whether AdamW decays a parameter: all but vectors and biases. */
const decays = (name: string, of: Tensor): boolean => of.ndim > 1 && !name.endsWith(".bias");

/** The training step as one compiled function: new parameters and moments, and the loss. */
const trainingStep = (jax: Library): Function => {
  const { numpy: np } = jax;
  const { block } = blocks(jax);
  const { beta1, beta2, epsilon, weightDecay } = ADAMW;
  return (given) => {
    const trained = Object.keys(given).filter((key) => /^blocks/.test(key));
    const { "given.x": x, "given.target": target, "given.rate": rate, "given.step": step } = given;
    const loss = (p: Tensors, x: Tensor, target: Tensor) => {
      const y = Array.from({ length: SIZES.depth }).reduce<Tensor>(
        (h, _, k) => block(p, `blocks.${k}.`, h),
        x,
      );
      return np.square(y.sub(target)).mean();
    };
    const old = Object.fromEntries(trained.map((key) => [key, given[key].ref]));
    const [value, gradients] = jax.valueAndGrad(loss)(old, x, target) as unknown as [
      Tensor,
      Tensors,
    ];
    const correction = (beta: number) => np.exp(step.ref.mul(Math.log(beta))).mul(-1).add(1);
    const first = correction(beta1), second = correction(beta2);
    const updates = trained.flatMap((key) => {
      const g = gradients[key];
      const mean = given[`adamw.mean.${key}`].mul(beta1).add(g.ref.mul(1 - beta1));
      const squares = given[`adamw.square.${key}`].mul(beta2).add(np.square(g).mul(1 - beta2));
      const deviation = np.sqrt(squares.ref).div(np.sqrt(second.ref)).add(epsilon);
      const moved = mean.ref.div(deviation).mul(rate.ref.div(first.ref));
      const p = given[key];
      const shrunk = decays(key, p) ? p.mul(rate.ref.mul(-weightDecay).add(1)) : p;
      return [
        [key, shrunk.sub(moved)],
        [`adamw.mean.${key}`, mean],
        [`adamw.square.${key}`, squares],
      ] as const;
    });
    [first, second, rate, step].forEach((of) => of.dispose());
    return { loss: value, ...Object.fromEntries(updates) };
  };
};

/** One step of the recurrence: the state [batch, channel, state] and y [batch, channel]. */
const scanStep = (jax: Library) => {
  const { numpy: np } = jax;
  return jax.jit((h: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) => {
    const column = (x: Tensor) => np.expandDims(x, 2), row = (x: Tensor) => np.expandDims(x, 1);
    const a = np.exp(column(delta.ref).mul(A));
    const next = a.mul(h).add(column(delta.mul(u)).mul(row(B)));
    return [next.ref, next.mul(row(C)).sum(2)] as [Tensor, Tensor];
  });
};

/**
 * The recurrence has no scan to be written with: a loop of compiled steps. Slices of the inputs are
 * made beforehand and outputs stay slices, which a user could not do; it is the best that this peer
 * can reach.
 */
const recurrence = (jax: Library, given: Tensors, gradients: boolean, settle: Settle): Running => {
  const { numpy: np } = jax;
  const { token } = SIZES;
  const step = scanStep(jax);
  const slices = (of: Tensor): Tensor[] =>
    Array.from({ length: token }, (_, t) => of.ref.slice([], t));
  const { A } = given;
  const each = Object.fromEntries(
    ["u", "delta", "B", "C", "given.g"].filter((key) => key in given)
      .map((key) => [key, slices(given[key])]),
  );
  const [batch, , inner] = given.u.shape;
  const state = given.B.shape[2];
  const scan = (A: Tensor, u: Tensor[], delta: Tensor[], B: Tensor[], C: Tensor[]): Tensor[] => {
    const ys: Tensor[] = [];
    let h = np.zeros([batch, inner, state]);
    for (let t = 0; t < token; t++) {
      const last = t === token - 1;
      const [next, y] = step(h, u[t], delta[t], last ? A : A.ref, B[t], C[t]) as [Tensor, Tensor];
      h = next;
      ys.push(y);
    }
    h.dispose();
    return ys;
  };
  const refs = (list: Tensor[]) => list.map((of) => of.ref);
  const weigh = jax.jit((total: Tensor, y: Tensor, g: Tensor) => total.add(y.mul(g).sum()));
  const loss = (A: Tensor, u: Tensor[], delta: Tensor[], B: Tensor[], C: Tensor[], g: Tensor[]) =>
    scan(A, u, delta, B, C).reduce((total, y, t) => weigh(total, y, g[t]), np.array(0) as Tensor);
  let outcome: Record<string, Tensor | Tensor[]> = {};
  const drop = () => {
    jax.tree.dispose(outcome);
    outcome = {};
  };
  const run = async () => {
    drop();
    const { u, delta, B, C, "given.g": g } = each;
    if (gradients) {
      const slopes = jax.valueAndGrad(loss, { argnums: [0, 1, 2, 3, 4] });
      const [value, [gA, gu, gdelta, gB, gC]] = slopes(
        A.ref,
        refs(u),
        refs(delta),
        refs(B),
        refs(C),
        refs(g),
      ) as unknown as [Tensor, [Tensor, Tensor[], Tensor[], Tensor[], Tensor[]]];
      outcome = {
        loss: value,
        "gradient of A": gA,
        "gradient of u": gu,
        "gradient of delta": gdelta,
        "gradient of B": gB,
        "gradient of C": gC,
      };
    } else {
      outcome = { y: scan(A.ref, refs(u), refs(delta), refs(B), refs(C)) };
    }
    await settle(jax.blockUntilReady(outcome));
  };
  const whole = async (of: Tensor | Tensor[]): Promise<Float32Array> => {
    if (!Array.isArray(of)) return Float32Array.from(await settle(of.ref.data()));
    const rows: Float32Array[] = [];
    for (const slice of of) rows.push(Float32Array.from(await settle(slice.ref.data())));
    // Slices are [batch, width]; the whole is [batch, token, width].
    const width = rows[0].length / batch;
    const all = new Float32Array(batch * token * width);
    rows.forEach((row, t) => {
      for (let b = 0; b < batch; b++) {
        all.set(row.subarray(b * width, (b + 1) * width), (b * token + t) * width);
      }
    });
    return all;
  };
  return {
    run,
    read: async () => {
      const read: Record<string, Float32Array> = {};
      for (const [key, of] of Object.entries(outcome)) read[key] = await whole(of);
      return read;
    },
    close: () => {
      drop();
      jax.tree.dispose(each);
      jax.tree.dispose(given as Record<string, Tensor>);
      step.dispose();
      weigh.dispose();
    },
  };
};

/** A function under jit, run on what is given; `feedback` puts new values in place of given ones. */
const compiled = (
  jax: Library,
  f: Function,
  given: Tensors,
  feedback: boolean,
  settle: Settle,
): Running => {
  const jitted = jax.jit(f);
  let now: Record<string, Tensor> = { ...given };
  let outcome: Record<string, Tensor> = {};
  return {
    run: async () => {
      jax.tree.dispose(outcome);
      outcome = jitted(jax.tree.ref(now)) as Record<string, Tensor>;
      if (feedback) {
        const next = Object.entries(outcome).filter(([key]) => key in now);
        next.forEach(([key]) => now[key].dispose());
        now = { ...now, ...Object.fromEntries(next.map(([key, of]) => [key, of.ref])) };
      }
      await settle(jax.blockUntilReady(outcome));
    },
    read: async () => {
      const read: Record<string, Float32Array> = {};
      for (const [key, of] of Object.entries(outcome)) {
        read[key] = Float32Array.from(await settle(of.ref.data()));
      }
      return read;
    },
    close: () => {
      jax.tree.dispose(outcome);
      jax.tree.dispose(now);
      jitted.dispose();
    },
  };
};

/** jax-js on the adapter that `navigator.gpu` shows, or as WebAssembly. */
export const loadJax: LoadPeer = async ({ target, settle }) => {
  const jax = await import(PACKAGE) as Library;
  const found = await settle(jax.init(target));
  if (!found.includes(target)) throw new Error(`it finds no device '${target}'`);
  jax.defaultDevice(target);
  const ys = forwards(jax);
  return {
    name: "jax-js",
    prepare: async (workload, values: Values) => {
      const given = Object.fromEntries(
        Object.entries(values).map(([key, { shape, data }]) => [
          key,
          jax.numpy.array(data as Float32Array<ArrayBuffer>).reshape([...shape]),
        ]),
      );
      await settle(jax.blockUntilReady(given));
      if (workload.startsWith("recurrence")) {
        return recurrence(jax, given, workload.endsWith("backward"), settle);
      }
      if (workload === "training step") {
        return compiled(jax, trainingStep(jax), given, true, settle);
      }
      if (workload in ys && !("given.g" in given)) {
        return compiled(jax, (p) => ({ y: ys[workload](p) }), given, false, settle);
      }
      const y = ys[workload.replace(/ backward$/, "")];
      if (y === undefined) return undefined;
      return compiled(jax, withGradients(jax, y), given, false, settle);
    },
    close: () => {},
  };
};
