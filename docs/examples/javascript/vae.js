// A VAE in JavaScript, for: vae-ref verify --exec "node vae.js"
// With the argument "bug", its KL lacks the 1/2.
"use strict";
const readline = require("node:readline");
const half = process.argv[2] === "bug" ? 1 : 0.5;

const columns = (array) => array.shape[array.shape.length - 1];
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

// One value for each row: the sum of what its places add.
function rows(array, term) {
  const width = columns(array), value = new Array(array.shape[0]).fill(0);
  array.numbers.forEach((_, i) => { value[Math.floor(i / width)] += term(i); });
  return { shape: [value.length], numbers: value };
}

// The slopes of the sum of cotangent times value, place by place.
function slopes(array, cotangent, slope) {
  const width = columns(array);
  const numbers = array.numbers.map((_, i) => cotangent.numbers[Math.floor(i / width)] * slope(i));
  return { shape: array.shape, numbers };
}

// Standard normal noise: mulberry32 for the bits, Box and Muller for the law.
function noise(seed) {
  let state = seed >>> 0;
  const bits = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
  const uniform = () => ((bits() >>> 5) * 67108864 + (bits() >>> 6) + 0.5) / 9007199254740992;
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

function kl({ mu, logvar }, { cotangent }) {
  const [m, v] = [mu.numbers, logvar.numbers];
  if (cotangent) return {
    mu: slopes(mu, cotangent, (i) => half * 2 * m[i]),
    logvar: slopes(mu, cotangent, (i) => half * Math.expm1(v[i])),
  };
  return rows(mu, (i) => half * (m[i] * m[i] + Math.expm1(v[i]) - v[i]));
}

function reparameterize({ mu, logvar }, { cotangent, seed }) {
  const normal = noise(seed), eps = mu.numbers.map(normal);
  const sigma = logvar.numbers.map((v) => Math.exp(v / 2));
  if (cotangent) return {
    mu: cotangent,
    logvar: { shape: mu.shape, numbers: eps.map((e, i) => cotangent.numbers[i] * e * sigma[i] / 2) },
  };
  return { shape: mu.shape, numbers: mu.numbers.map((m, i) => m + eps[i] * sigma[i]) };
}

// The outputs are logits.
const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));

function nll({ outputs, x }, { cotangent }) {
  const [a, b] = [outputs.numbers, x.numbers];
  if (cotangent) return {
    outputs: slopes(outputs, cotangent, (i) => 1 / (1 + Math.exp(-a[i])) - b[i]),
    x: slopes(outputs, cotangent, (i) => -a[i]),
  };
  return rows(outputs, (i) => softplus(a[i]) - b[i] * a[i]);
}

function loss(inputs, request) {
  const { cotangent } = request;
  if (cotangent) {
    const each = { shape: [inputs.mu.shape[0]], numbers: [] };
    each.numbers = new Array(each.shape[0]).fill(cotangent.numbers[0]);
    const same = { cotangent: each };
    return { ...nll(inputs, same), ...kl(inputs, same) };
  }
  const total = sum(nll(inputs, {}).numbers) + sum(kl(inputs, {}).numbers);
  return { shape: [], numbers: [total] };
}

function importance_weighted({ log_w }, { cotangent }) {
  const width = columns(log_w), most = [], total = [];
  for (let row = 0; row < log_w.shape[0]; row++) {
    const weights = log_w.numbers.slice(row * width, (row + 1) * width);
    most.push(weights.reduce((a, b) => Math.max(a, b), -Infinity));
    total.push(sum(weights.map((w) => Math.exp(w - most[row]))));
  }
  if (cotangent) return { log_w: slopes(log_w, cotangent, (i) => {
    const row = Math.floor(i / width);
    return Math.exp(log_w.numbers[i] - most[row]) / total[row];
  }) };
  return { shape: [most.length], numbers: most.map((m, i) => m + Math.log(total[i] / width)) };
}

const functions = { kl, reparameterize, nll, loss, importance_weighted };

// Arrays travel as the bytes of their doubles. If all rows are equal, they come as one.
function read({ shape, base64 }) {
  const row = new Float64Array(new Uint8Array(Buffer.from(base64, "base64")).buffer);
  const numbers = new Float64Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < numbers.length; i += row.length) numbers.set(row, i);
  return { shape, numbers };
}

function write({ shape, numbers }) {
  const { buffer } = Float64Array.from(numbers);
  return { shape, base64: Buffer.from(buffer).toString("base64") };
}

function answer(request) {
  if (request.do === "start") return {
    name: "vae.js", language: `JavaScript, node ${process.version}`, gradients: true,
    supports: Object.keys(functions), conventions: { likelihood: "bernoulli-logits" },
    accepts: ["base64"],
  };
  const inputs = {}, cotangent = request.cotangent && read(request.cotangent);
  for (const [name, array] of Object.entries(request.inputs)) inputs[name] = read(array);
  try {
    const found = functions[request.function](inputs, { ...request, cotangent });
    if (!cotangent) return { id: request.id, value: write(found) };
    for (const name of Object.keys(found)) found[name] = write(found[name]);
    return { id: request.id, slopes: found };
  } catch (error) {
    return { id: request.id, error: error.stack };
  }
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const request = JSON.parse(line);
  if (request.do === "stop") process.exit(0);
  console.log(JSON.stringify(answer(request)));
});
