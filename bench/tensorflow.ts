// The workloads in TensorFlow.js on its WebGPU or WebAssembly backend, as its users would write them. It has no
// compiler: every operation is a kernel. Gradients are by `tf.grads`; recurrences and the training
// step are left to the peer that has a compiler.
import type * as TensorFlow from "@tensorflow/tfjs-core";
import type { Target } from "./device.ts";
import type { LoadPeer, Running, Values } from "./peer.ts";
import { SIZES } from "./workloads.ts";

type Library = typeof TensorFlow;
type Tensor = TensorFlow.Tensor;
type Tensors = Readonly<Record<string, Tensor>>;

// Names that are not literals: the module graph does not need the packages to be there.
const CORE: string = "@tensorflow/tfjs-core";
const BACKENDS: Readonly<Record<Target, string>> = {
  webgpu: "@tensorflow/tfjs-backend-webgpu",
  wasm: "@tensorflow/tfjs-backend-wasm",
};

const forwards = (tf: Library): Readonly<Record<string, (p: Tensors) => Tensor>> => {
  const { batch, token, channel, heads } = SIZES;
  const product = ({ a, b }: Tensors) => tf.matMul(a, b);
  const gelu = (x: Tensor) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));
  const linear = (p: Tensors, at: string, x: Tensor) => {
    const [out, from] = p[`${at}.weight`].shape;
    const y = tf.matMul(tf.reshape(x, [-1, from]), p[`${at}.weight`] as never, false, true);
    return tf.reshape(tf.add(y, p[`${at}.bias`]), [batch, token, out]);
  };
  const norm = (p: Tensors, at: string, x: Tensor) => {
    const { mean, variance } = tf.moments(x, -1, true);
    const scaled = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, 1e-6)));
    return tf.add(tf.mul(scaled, p[`${at}weight`]), p[`${at}bias`]);
  };
  const attention = (p: Tensors, at: string, x: Tensor) => {
    const size = channel / heads;
    const all = tf.reshape(linear(p, `${at}qkv_layer`, x), [batch, token, 3, heads, size]);
    const [q, k, v] = tf.unstack(tf.transpose(all, [2, 0, 3, 1, 4]), 0);
    const scores = tf.softmax(tf.mul(tf.matMul(q, k, false, true), size ** -0.5));
    const y = tf.transpose(tf.matMul(scores, v), [0, 2, 1, 3]);
    return linear(p, `${at}proj_layer`, tf.reshape(y, [batch, token, channel]));
  };
  const block = (p: Tensors, x: Tensor) => {
    const h = tf.add(x, attention(p, "attn.", norm(p, "norm1.", x)));
    const hidden = gelu(linear(p, "mlp.layer1", norm(p, "norm2.", h)));
    return tf.add(h, linear(p, "mlp.layer2", hidden));
  };
  return {
    "matmul 512": product,
    "matmul 1024": product,
    "matmul 2008x192x768": product,
    "attention scores": ({ q, k }) => tf.matMul(q, k, false, true),
    "attention values": ({ weights, v }) => tf.matMul(weights, v),
    "softmax": ({ x }) => tf.softmax(x),
    "layer norm": (p) => norm(p, "", p.x),
    "gelu": ({ x }) => gelu(x),
    "attention": (p) => attention(p, "", p.x),
    "block": (p) => block(p, p.x),
  };
};

/**
 * TensorFlow.js on the adapter that `navigator.gpu` shows, or as WebAssembly: with SIMD, but on one
 * thread, as its threaded build does not start in Deno.
 */
export const loadTensorFlow: LoadPeer = async ({ target, settle }) => {
  const tf = await import(CORE) as Library;
  await import(BACKENDS[target]);
  if (!await settle(tf.setBackend(target))) {
    throw new Error(`its backend '${target}' does not start`);
  }
  await settle(tf.ready());
  const ys = forwards(tf);
  return {
    name: "TensorFlow.js",
    prepare: (workload, values: Values): Promise<Running | undefined> => {
      const y = ys[workload.replace(/ backward$/, "")];
      if (y === undefined) return Promise.resolve(undefined);
      const given: Tensors = Object.fromEntries(
        Object.entries(values).map(([key, { shape, data }]) => [
          key,
          tf.tensor(data, [...shape]),
        ]),
      );
      const wrt = Object.keys(given).filter((key) => key !== "given.g");
      const loss = (...list: Tensor[]): Tensor => {
        const p = Object.fromEntries(wrt.map((key, k) => [key, list[k]]));
        return tf.sum(tf.mul(y(p), given["given.g"]));
      };
      const compute = (): Tensors => {
        if (!("given.g" in given)) return { y: tf.tidy(() => y(given)) };
        const { value, grads } = tf.tidy(() =>
          tf.valueAndGrads(loss)(wrt.map((key) => given[key]))
        );
        return {
          loss: value,
          ...Object.fromEntries(wrt.map((key, k) => [`gradient of ${key}`, grads[k]])),
        };
      };
      let outcome: Tensors = {};
      const { device } = tf.backend() as unknown as { readonly device?: GPUDevice };
      return Promise.resolve({
        run: async () => {
          Object.values(outcome).forEach((of) => of.dispose());
          outcome = compute();
          const last = Object.values(outcome)[0];
          // Waits as our side does: the smallest of what was computed is read back.
          await settle(
            last.size === 1 ? last.data() : tf.slice(tf.reshape(last, [-1]), 0, 1).data(),
          );
          if (device !== undefined) await settle(device.queue.onSubmittedWorkDone());
        },
        read: async () => {
          const read: Record<string, Float32Array> = {};
          for (const [key, of] of Object.entries(outcome)) {
            read[key] = Float32Array.from(await settle(of.data()));
          }
          return read;
        },
        close: () =>
          [...Object.values(outcome), ...Object.values(given)].forEach((of) => of.dispose()),
      });
    },
    close: () => {},
  };
};
