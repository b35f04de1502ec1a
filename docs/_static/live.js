"use strict";
// The figures of the guide's live page. Their words come from the page, their numbers from
// live_data.js, which `python -m benchmarks.live` writes. Nothing is loaded from elsewhere.
{
  const SIDE = 28;
  const TILES = 15; // digits in a row of a decoded plane
  const DRAWS = 12;
  const REACH = 4; // how far the plane of a VAE is shown
  const REST = 450; // milliseconds that a change of the weight takes

  // What the models compute.

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const floats = (text) => new Float32Array(bytes(text).buffer);

  function unpack(packed) {
    const model = { beta: packed.beta, large: new Int8Array(bytes(packed.large).buffer) };
    for (const name of ["first", "inner", "scale", "outer", "mu", "sigma"]) {
      model[name] = floats(packed[name]);
    }
    return model;
  }

  // Return the probability of ink in each pixel: sigmoid(large relu(first z + inner) + outer).
  function decode({ first, inner, large, scale, outer }, z) {
    const hidden = inner.map((bias, unit) =>
      Math.max(0, first[2 * unit] * z[0] + first[2 * unit + 1] * z[1] + bias),
    );
    return outer.map((bias, pixel) => {
      let sum = 0;
      const row = pixel * hidden.length;
      for (let unit = 0; unit < hidden.length; unit++) sum += large[row + unit] * hidden[unit];
      return 1 / (1 + Math.exp(-(scale[pixel] * sum + bias)));
    });
  }

  const pair = (values, n) => [values[2 * n], values[2 * n + 1]];
  const cloud = (model, n) => ({ mu: pair(model.mu, n), sigma: pair(model.sigma, n) });
  const reparameterize = ({ mu, sigma }, eps) => mu.map((m, d) => m + sigma[d] * eps[d]);
  const divergence = ({ mu, sigma }) =>
    mu.reduce((sum, m, d) => sum + (m * m + sigma[d] ** 2 - 1) / 2 - Math.log(sigma[d]), 0);

  // Return the normal distribution with the mean and the standard deviation of all codes.
  function fitted({ mu }) {
    const count = mu.length / 2;
    const means = [0, 1].map(
      (d) => mu.reduce((sum, m, n) => sum + (n % 2 === d ? m : 0), 0) / count,
    );
    const squares = mu.reduce(
      (sums, m, n) => {
        sums[n % 2] += (m - means[n % 2]) ** 2;
        return sums;
      },
      [0, 0],
    );
    return { mu: means, sigma: squares.map((sum) => Math.sqrt(sum / count)) };
  }

  // Draw pairs of N(0, 1), the same for the same seed, by Box and Muller.
  function normal(seed) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0; // mulberry32
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
    return () => {
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      const angle = 2 * Math.PI * uniform();
      return [radius * Math.cos(angle), radius * Math.sin(angle)];
    };
  }

  const several = (seed) => {
    const draw = normal(seed);
    return Array.from({ length: DRAWS }, draw);
  };

  const between = (a, b, t) => a + (b - a) * t;
  const number = (value, digits) => value.toFixed(digits).replace("-", "−");

  // What the page shows.

  const CLASSES =
    "#3b74c4 #e8770a #2f9e44 #e03131 #8250c4 #8c564b #d6499a #6b7280 #a88a00 #0d9aa8".split(" ");
  const repaints = []; // what depends on the colours of the page

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function colours() {
    const style = getComputedStyle(document.querySelector(".live"));
    const ink = style.color
      .match(/[\d.]+/g)
      .slice(0, 3)
      .map(Number);
    // Towards the colour of the text, a hue can be read on a light page and on a dark one.
    const mixed = (hex) => {
      const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
      return `rgb(${parts.map((part, n) => Math.round(between(part, ink[n], 0.25)))})`;
    };
    return {
      ink,
      faint: (alpha) => `rgba(${ink}, ${alpha})`,
      paper: style.getPropertyValue("--color-background-primary"),
      accent: style.getPropertyValue("--color-brand-primary"),
      classes: CLASSES.map(mixed),
    };
  }

  // Put ink of some probabilities on a canvas, on no ground.
  function inked(canvas, images, columns) {
    const context = canvas.getContext("2d");
    const { ink } = colours();
    canvas.width = columns * SIDE;
    canvas.height = Math.ceil(images.length / columns) * SIDE;
    images.forEach((image, n) => {
      const data = context.createImageData(SIDE, SIDE);
      image.forEach((p, i) => data.data.set([...ink, 255 * p], 4 * i));
      context.putImageData(data, (n % columns) * SIDE, Math.floor(n / columns) * SIDE);
    });
    return canvas;
  }

  // Make a canvas for digits side by side.
  function digits(label, columns = 1) {
    const canvas = element("canvas", { class: "live-digits", role: "img", "aria-label": label });
    let shown = [];
    const paint = () => inked(canvas, shown, columns);
    repaints.push(paint);
    return {
      canvas,
      show(images) {
        shown = images;
        paint();
      },
    };
  }

  // Decode a grid of points, once for a model, a place and a colour.
  const grids = new Map();
  function grid(model, centre, reach) {
    const key = [model.beta, model.name, centre, reach, colours().ink].join();
    if (!grids.has(key)) {
      const at = (n) => reach * ((2 * n + 1) / TILES - 1);
      const images = Array.from({ length: TILES ** 2 }, (_, n) =>
        decode(model, [centre[0] + at(n % TILES), centre[1] - at(Math.floor(n / TILES))]),
      );
      if (grids.size > 40) grids.clear();
      grids.set(key, inked(document.createElement("canvas"), images, TILES));
    }
    return grids.get(key);
  }

  // Make a square of the latent plane. With `moved`, it has a point that can be moved.
  function plane(label, moved) {
    const canvas = element("canvas", { class: "live-plane", "aria-label": label });
    canvas.setAttribute("role", moved ? "application" : "img");
    let scene = null;

    function paint() {
      const size = canvas.clientWidth;
      if (!scene || !size) return;
      const ratio = window.devicePixelRatio || 1;
      canvas.width = canvas.height = Math.round(size * ratio);
      const context = canvas.getContext("2d");
      context.scale(ratio, ratio);
      draw(context, size, scene);
    }

    repaints.push(paint);
    new ResizeObserver(paint).observe(canvas);
    if (moved) {
      canvas.tabIndex = 0;
      const inside = (z) =>
        z.map((value, d) => {
          const { centre, reach } = scene;
          return Math.min(Math.max(value, centre[d] - reach), centre[d] + reach);
        });
      const point = (event) => {
        const box = canvas.getBoundingClientRect();
        const { centre, reach } = scene;
        moved(
          inside([
            centre[0] + reach * ((2 * (event.clientX - box.left)) / box.width - 1),
            centre[1] - reach * ((2 * (event.clientY - box.top)) / box.height - 1),
          ]),
        );
      };
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        point(event);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (canvas.hasPointerCapture(event.pointerId)) point(event);
      });
      canvas.addEventListener("keydown", (event) => {
        const to = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
        const step = to[event.key];
        if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        const length = scene.reach / (event.shiftKey ? 8 : 40);
        moved(inside(scene.point.map((value, d) => value + length * step[d])));
      });
    }
    return {
      canvas,
      show(next) {
        scene = next;
        paint();
      },
    };
  }

  function draw(context, size, scene) {
    const { model, centre, reach } = scene;
    const colour = colours();
    const x = (z) => (size * (1 + (z[0] - centre[0]) / reach)) / 2;
    const y = (z) => (size * (1 - (z[1] - centre[1]) / reach)) / 2;
    const length = (value) => (size * value) / (2 * reach);
    const ring = ({ mu, sigma }, times) => {
      context.beginPath();
      const radii = sigma.map((value) => length(times * value));
      context.ellipse(x(mu), y(mu), radii[0], radii[1], 0, 0, 2 * Math.PI);
    };
    context.clearRect(0, 0, size, size);
    if (scene.tiles) {
      context.globalAlpha = scene.codes ? 0.3 : 0.75;
      context.drawImage(grid(model, centre, reach), 0, 0, size, size);
      context.globalAlpha = 1;
    }
    if (scene.prior) {
      context.setLineDash([4, 4]);
      context.strokeStyle = scene.prior === "strong" ? colour.accent : colour.faint(0.45);
      context.lineWidth = scene.prior === "strong" ? 2 : 1;
      for (const times of [1, 2]) {
        ring({ mu: [0, 0], sigma: [1, 1] }, times);
        context.stroke();
      }
      context.setLineDash([]);
    }
    if (scene.codes) {
      context.font = `600 ${size > 260 ? 11 : 8}px system-ui, sans-serif`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.globalAlpha = scene.codes === "faint" ? 0.6 : 0.9;
      LIVE.labels.forEach((label, n) => {
        context.fillStyle = colour.classes[label];
        const z = pair(scene.mu || model.mu, n);
        context.fillText(label, x(z), y(z));
      });
      context.globalAlpha = 1;
    }
    const many = scene.clouds && scene.clouds.length > 1;
    for (const { mu, sigma, label } of scene.clouds || []) {
      const hue = label === undefined ? colour.accent : colour.classes[label];
      context.fillStyle = context.strokeStyle = hue;
      context.lineWidth = 1.5;
      for (const times of [2, 1]) {
        ring({ mu, sigma }, times);
        context.globalAlpha = many ? 0.04 : 0.16; // many may lie on one another
        context.fill();
        context.globalAlpha = times === 1 ? 0.9 : 0.5;
        context.stroke();
      }
      context.globalAlpha = 1;
    }
    const small = size < 260 ? 0.65 : 1;
    const dot = (z, radius) => {
      context.beginPath();
      context.arc(x(z), y(z), small * radius, 0, 2 * Math.PI);
      context.fillStyle = colour.accent;
      context.fill();
      context.strokeStyle = colour.paper;
      context.lineWidth = 1.5;
      context.stroke();
    };
    if (scene.lens) {
      const side = Math.max(length(2 * scene.lens.reach), 8);
      context.strokeStyle = colour.accent;
      context.lineWidth = 1.5;
      context.strokeRect(
        x(scene.lens.centre) - side / 2,
        y(scene.lens.centre) - side / 2,
        side,
        side,
      );
    }
    for (const z of scene.draws || []) dot(z, 4);
    if (scene.point) {
      dot(scene.point, 8);
      context.beginPath();
      context.arc(x(scene.point), y(scene.point), small * 14, 0, 2 * Math.PI);
      context.strokeStyle = colour.accent;
      context.lineWidth = 1;
      context.stroke();
    }
  }

  function choice(kind, label, checked, changed, name = "") {
    const input = element("input", { type: kind, ...(name && { name }) });
    input.checked = checked;
    input.addEventListener("change", changed);
    return { input, label: element("label", { class: "live-choice" }, input, label) };
  }

  function button(label, pressed) {
    const made = element("button", { type: "button", class: "live-button" }, label);
    made.addEventListener("click", pressed);
    return made;
  }

  const row = (...children) => element("div", { class: "live-row" }, ...children);
  const column = (...children) => element("div", { class: "live-column" }, ...children);
  const named = (label, child) =>
    element("div", { class: "live-named" }, element("div", { class: "live-label" }, label), child);

  const chosenImages = () => {
    const all = bytes(LIVE.images);
    return LIVE.chosen.map((_, n) =>
      Float32Array.from(all.subarray(n * SIDE ** 2, (n + 1) * SIDE ** 2), (value) => value / 255),
    );
  };

  // The figures. Each takes its element, the models, and fills the one with the others.

  function walk(root, { vae }) {
    const say = root.dataset;
    const shown = digits(say.digit);
    const where = element("output", { class: "live-value" });
    let point = [1.6, 0.2];
    const map = plane(say.plane, (z) => {
      point = z;
      show();
    });
    const tiles = choice("checkbox", say.tiles, true, () => show());
    const codes = choice("checkbox", say.codes, false, () => show());
    shown.canvas.classList.add("live-big");
    root.append(
      element(
        "div",
        { class: "live-row live-walk" },
        map.canvas,
        column(
          named(say.digit, shown.canvas),
          where,
          element("div", { class: "live-controls" }, tiles.label, codes.label),
        ),
      ),
    );
    function show() {
      const scene = { model: vae, centre: [0, 0], reach: REACH, prior: "faint", point };
      map.show({ ...scene, tiles: tiles.input.checked, codes: codes.input.checked });
      shown.show([decode(vae, point)]);
      where.textContent = `z = (${point.map((value) => number(value, 2)).join(", ")})`;
    }
    show();
  }

  function clouds(root, { vae, images }) {
    const say = root.dataset;
    const whole = plane(say.plane);
    const lens = plane(say.lens);
    const copies = digits(say.copies, DRAWS / 2);
    const image = digits(say.image);
    const terms = element("output", { class: "live-value" });
    let seed = 1;
    let chosen = 1;
    const noise = choice("checkbox", say.noise, true, () => show());
    const again = button(say.draw, () => {
      seed += 1;
      show();
    });
    const strip = element("div", {
      class: "live-strip",
      role: "radiogroup",
      "aria-label": say.choose,
    });
    images.forEach((pixels, n) => {
      const one = digits("");
      one.show([pixels]);
      one.canvas.setAttribute("aria-hidden", "true");
      const picked = () => {
        chosen = n;
        show();
      };
      const { input, label } = choice("radio", one.canvas, n === chosen, picked, "live-image");
      input.setAttribute("aria-label", LIVE.labels[LIVE.chosen[n]]);
      strip.append(label);
    });
    root.append(
      named(say.choose, strip),
      element(
        "div",
        { class: "live-row live-both" },
        named(say.plane, whole.canvas),
        named(say.lens, lens.canvas),
      ),
      element("div", { class: "live-controls" }, noise.label, again),
      element(
        "div",
        { class: "live-row live-copies" },
        named(say.image, image.canvas),
        named(say.copies, copies.canvas),
      ),
      terms,
    );
    function show() {
      const on = noise.input.checked;
      const code = cloud(vae, LIVE.chosen[chosen]);
      const eps = several(seed).map((one) => (on ? one : [0, 0]));
      const draws = eps.map((one) => reparameterize(code, one));
      const shared = { model: vae, tiles: true, clouds: [code] };
      const near = { centre: code.mu, reach: 3.5 * Math.max(...code.sigma) };
      whole.show({ ...shared, centre: [0, 0], reach: REACH, prior: "faint", lens: near });
      lens.show({ ...shared, ...near, draws });
      image.show([images[chosen]]);
      copies.show(draws.map((z) => decode(vae, z)));
      again.disabled = !on;
      const vector = (values) => `(${values.map((value) => number(value, 2)).join(", ")})`;
      terms.textContent =
        `μ = ${vector(code.mu)}, σ = ${vector(code.sigma)}, ` +
        `KL = ${number(divergence(code), 1)} ${say.nats}`;
    }
    show();
  }

  function weight(root, { vaes, images }) {
    const say = root.dataset;
    const map = plane(say.plane);
    const shown = images.filter((_, n) => n % 2 === 0);
    const places = LIVE.chosen.filter((_, n) => n % 2 === 0);
    const originals = digits(say.images, shown.length);
    const copies = digits(say.copies, shown.length);
    const samples = digits(say.samples, shown.length);
    const curve = chart(say, LIVE.curve, (n) => set(n));
    const values = element("output", { class: "live-value" });
    const tiles = choice("checkbox", say.tiles, false, () => place(at));
    const slider = element("input", {
      type: "range",
      min: 0,
      max: vaes.length - 1,
      step: 1,
      "aria-label": say.weight,
    });
    const reaches = vaes.map(({ mu }) => Math.max(2.5, 1.1 * Math.max(...mu.map(Math.abs))));
    let now = vaes.findIndex((model) => model.beta === 1);
    let at = now; // where the picture is, between two weights while it moves
    let frame = 0;
    slider.value = now;
    slider.addEventListener("input", () => set(Number(slider.value)));
    const ticks = element("div", { class: "live-ticks", "aria-hidden": "true" });
    ticks.append(...vaes.map((model) => element("span", {}, String(model.beta))));
    root.append(
      element("div", { class: "live-slider" }, named(say.weight, slider), ticks),
      row(
        column(named(say.plane, map.canvas), tiles.label),
        column(named(say.curve, curve.svg), values),
      ),
      named(say.images, originals.canvas),
      named(say.copies, copies.canvas),
      named(say.samples, samples.canvas),
    );

    function set(next) {
      const from = at;
      now = next;
      slider.value = next;
      settle();
      cancelAnimationFrame(frame);
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) return place(next);
      const began = performance.now();
      const step = (time) => {
        const t = Math.min(Math.max((time - began) / REST, 0), 1);
        place(between(from, next, t * t * (3 - 2 * t)));
        if (t < 1) frame = requestAnimationFrame(step);
      };
      frame = requestAnimationFrame(step);
    }

    // Show the codes and the point on the curve between two models; both lie on straight lines.
    function place(position) {
      at = position;
      const low = Math.floor(position);
      const high = Math.min(low + 1, vaes.length - 1);
      const mixed = (name) =>
        vaes[low][name].map((value, n) => between(value, vaes[high][name][n], position - low));
      const moving = { mu: mixed("mu"), sigma: mixed("sigma") };
      map.show({
        model: vaes[now],
        mu: moving.mu,
        clouds: LIVE.chosen.map((n) => ({ ...cloud(moving, n), label: LIVE.labels[n] })),
        centre: [0, 0],
        reach: between(reaches[low], reaches[high], position - low),
        tiles: tiles.input.checked && Number.isInteger(position),
        codes: "faint",
        prior: "faint",
      });
      curve.move(low, high, position - low);
    }

    function settle() {
      const model = vaes[now];
      const { beta, reconstruction, kl } = LIVE.curve[now];
      copies.show(places.map((n) => decode(model, pair(model.mu, n))));
      samples.show(
        several(7)
          .slice(0, shown.length)
          .map((z) => decode(model, z)),
      );
      slider.setAttribute("aria-valuetext", `β = ${beta}`);
      const cells = [
        ["β", String(beta)],
        [say.reconstruction, `${number(reconstruction, 1)} ${say.nats}`],
        [say.kl, `${number(kl, 1)} ${say.nats}`],
        [say.loss, `${number(reconstruction + beta * kl, 1)} ${say.nats}`],
      ];
      values.replaceChildren(
        ...cells.flatMap(([name, value]) => [
          element("span", { class: "live-label" }, name),
          element("span", {}, value),
        ]),
      );
    }
    originals.show(shown);
    settle();
    place(now);
  }

  // Draw reconstruction against KL, with a point that moves along.
  function chart(say, curve, chosen) {
    const width = 340;
    const height = 260;
    const margin = { left: 46, right: 14, top: 12, bottom: 42 };
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, class: "live-chart" });
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", say.curve);
    const scale = (name, from, to, every) => {
      const values = curve.map((one) => one[name]);
      const low = Math.floor(Math.min(...values) / every) * every;
      const high = Math.ceil(Math.max(...values) / every) * every;
      const place = (value) => between(from, to, (value - low) / (high - low));
      const marks = Array.from({ length: (high - low) / every + 1 }, (_, n) => low + n * every);
      return { place, marks };
    };
    const x = scale("kl", margin.left, width - margin.right, 2);
    const y = scale("reconstruction", height - margin.bottom, margin.top, 10);
    for (const mark of x.marks) {
      const at = { x: x.place(mark), y: height - margin.bottom + 16 };
      svg.append(shape("text", { ...at, "text-anchor": "middle" }, mark));
    }
    for (const mark of y.marks) {
      const at = y.place(mark);
      const ends = { x1: margin.left, x2: width - margin.right, y1: at, y2: at };
      svg.append(
        shape("line", { ...ends, class: "live-rule" }),
        shape("text", { x: margin.left - 6, y: at + 4, "text-anchor": "end" }, mark),
      );
    }
    const middle = (margin.left + width - margin.right) / 2;
    const turned = `translate(11 ${(margin.top + height - margin.bottom) / 2}) rotate(-90)`;
    svg.append(
      shape("text", { x: middle, y: height - 6, "text-anchor": "middle" }, say.kl),
      shape("text", { transform: turned, "text-anchor": "middle" }, say.reconstruction),
      shape("polyline", {
        points: curve.map((one) => `${x.place(one.kl)},${y.place(one.reconstruction)}`).join(" "),
        class: "live-line",
      }),
    );
    curve.forEach((one, n) => {
      const at = { cx: x.place(one.kl), cy: y.place(one.reconstruction) };
      const hit = shape("circle", { ...at, r: 16, class: "live-hit" });
      hit.addEventListener("click", () => chosen(n));
      const last = at.cx > width - 3 * margin.right;
      const label = {
        x: at.cx + (last ? 6 : 8),
        y: at.cy - 8,
        "text-anchor": last ? "end" : "start",
      };
      svg.append(
        shape("circle", { ...at, r: 3.5, class: "live-stop" }),
        shape("text", label, one.beta),
        hit,
      );
    });
    const point = shape("circle", { r: 7, class: "live-now" });
    svg.append(point);
    return {
      svg,
      move(low, high, t) {
        point.setAttribute("cx", x.place(between(curve[low].kl, curve[high].kl, t)));
        const height = between(curve[low].reconstruction, curve[high].reconstruction, t);
        point.setAttribute("cy", y.place(height));
      },
    };
  }

  function shape(name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function both(root, { vae, autoencoder }) {
    const say = root.dataset;
    let seed = 3;
    const again = button(say.draw, () => {
      seed += 1;
      show();
    });
    const prior = choice("radio", say.prior, true, () => show(), "live-law");
    const other = choice("radio", say.fitted, false, () => show(), "live-law");
    const codes = choice("checkbox", say.codes, true, () => show());
    const sides = [
      [say.autoencoder, autoencoder],
      [say.vae, vae],
    ].map(([title, model]) => {
      const all = fitted(model);
      const side = { model, all, centre: all.mu, reach: 3 * Math.max(...all.sigma), point: all.mu };
      side.map = plane(`${title}: ${say.plane}`, (z) => {
        side.point = z;
        show();
      });
      side.one = digits(`${title}: ${say.digit}`);
      side.drawn = digits(`${title}: ${say.draws}`, DRAWS / 2);
      side.column = column(
        named(title, side.map.canvas),
        element(
          "div",
          { class: "live-row live-copies" },
          named(say.digit, side.one.canvas),
          named(say.draws, side.drawn.canvas),
        ),
      );
      return side;
    });
    root.append(
      element(
        "div",
        { class: "live-controls" },
        element(
          "span",
          { role: "radiogroup", "aria-label": say.from, class: "live-group" },
          say.from,
          prior.label,
          other.label,
        ),
        again,
        codes.label,
      ),
      element("div", { class: "live-row live-both" }, ...sides.map((side) => side.column)),
    );
    function show() {
      for (const { model, all, centre, reach, point, map, one, drawn } of sides) {
        const law = prior.input.checked ? { mu: [0, 0], sigma: [1, 1] } : all;
        const draws = several(seed).map((eps) => reparameterize(law, eps));
        const scene = { model, centre, reach, point, draws, prior: "strong" };
        map.show({ ...scene, tiles: true, codes: codes.input.checked && "faint" });
        one.show([decode(model, point)]);
        drawn.show(draws.map((z) => decode(model, z)));
      }
    }
    show();
  }

  function start() {
    const vaes = LIVE.vaes.map(unpack);
    const autoencoder = { ...unpack(LIVE.autoencoder), name: "autoencoder" };
    const vae = vaes.find((model) => model.beta === 1);
    const figures = { walk, clouds, weight, both };
    for (const root of document.querySelectorAll(".live")) {
      figures[root.dataset.live](root, { vaes, vae, autoencoder, images: chosenImages() });
    }
    document.documentElement.classList.add("live-runs");
    const repaint = () => repaints.forEach((paint) => paint());
    new MutationObserver(repaint).observe(document.body, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  }

  if (typeof document !== "undefined") start();
  else module.exports = { unpack, decode, cloud, reparameterize, divergence, fitted };
}
