// An endless wall of images by seed. Only what is near the window is in the document.

import { debounced, h, icon } from "./dom.js";
import { inspect } from "./inspect.js";
import { ofSeed, randomSeed } from "./images.js";
import { changed, listen, state } from "./store.js";
import { tile } from "./tile.js";

const LAST = 2n ** 64n - 1n;
const AHEAD = 1.2; // windows above and below that are filled
const TARGETS = [64, 96, 128, 192, 256];

export function look(main) {
  const wall = h("ul", { class: "wall", "aria-label": "Images by seed" });
  const scroll = h("div", { class: "scroll" }, wall);
  const tiles = new Map(); // place on the wall to tile
  let layout = null;

  const size = h("input", { type: "range", id: "size", min: "0", max: String(TARGETS.length - 1), step: "1", value: String(state.size), oninput: () => { state.size = Number(size.value); refill(); } });
  const seed = h("input", { type: "text", id: "seed", inputMode: "numeric", pattern: "[0-9]*", maxLength: 20, value: String(state.first), "aria-describedby": "seed-help", onchange: () => goTo(seed.value) });
  main.append(
    h("div", { class: "controls" },
      ...newImageControls(() => refill()),
      h("div", { class: "field" }, h("label", { for: "seed", class: "quiet" }, "From seed"), seed),
      h("span", { id: "seed-help", class: "hidden" }, "A whole number from 0 to 18446744073709551615"),
      h("button", { onclick: () => goTo(String(randomSeed())) }, icon("dice"), "Anywhere"),
      h("div", { class: "range" }, h("label", { for: "size", class: "quiet" }, "Size"), h("span"), size),
    ),
    scroll,
  );

  function goTo(text) {
    let first;
    try {
      first = BigInt(text.trim());
    } catch {
      first = -1n;
    }
    const wrong = first < 0n || first > LAST;
    seed.setCustomValidity(wrong ? "A seed is a whole number from 0 to 18446744073709551615." : "");
    if (wrong) return seed.reportValidity();
    state.first = first;
    seed.value = String(first);
    scroll.scrollTop = 0;
    refill();
  }

  function refill() {
    const focused = document.activeElement?.closest?.(".wall .tile")?.place;
    for (const element of tiles.values()) element.leave();
    tiles.clear();
    wall.replaceChildren();
    layout = null;
    draw();
    tiles.get(focused)?.querySelector(".open").focus({ preventScroll: true });
  }

  // The tray takes height when the first image is chosen. Only another width moves the tiles.
  function resize() {
    if (layout?.room === scroll.clientWidth) draw();
    else refill();
  }

  function measure() {
    const { width: w, height: hgt } = state.model;
    const gap = parseFloat(getComputedStyle(main).getPropertyValue("--gap")) || 6;
    const room = scroll.clientWidth - 2 * parseFloat(getComputedStyle(scroll).paddingLeft);
    const target = Math.min(TARGETS[state.size], room);
    // Whole multiples of a small image's pixels, so that every pixel has the same size.
    const width = w < 128 ? Math.max(1, Math.round(target / w)) * w : target;
    const height = Math.round((width * hgt) / w);
    const columns = Math.max(1, Math.floor((room + gap) / (width + gap)));
    const last = Number((LAST - state.first) / BigInt(columns) < 10_000_000n ? (LAST - state.first) / BigInt(columns) : 10_000_000n);
    layout = { room: scroll.clientWidth, gap, width, height, columns, last };
    wall.style.width = `${columns * (width + gap) - gap}px`;
    wall.style.setProperty("--tile", `${width}px`);
    wall.style.setProperty("--tile-height", `${height}px`);
  }

  function draw() {
    if (!main.contains(scroll)) return;
    if (!layout) measure();
    const { gap, width, height, columns, last } = layout;
    const step = height + gap;
    const near = scroll.clientHeight * AHEAD;
    const from = Math.max(0, Math.floor((scroll.scrollTop - near) / step));
    const to = Math.min(last, Math.ceil((scroll.scrollTop + scroll.clientHeight + near) / step));
    wall.style.height = `${Math.min((last + 1) * step, scroll.scrollTop + 6 * scroll.clientHeight)}px`;
    for (const [place, element] of tiles) {
      const row = Math.floor(place / columns);
      if ((row < from || row > to) && !element.contains(document.activeElement)) {
        element.leave();
        element.querySelector("img").src = ""; // what is still on its way is not waited for
        element.remove();
        tiles.delete(place);
      }
    }
    for (let row = from; row <= to; row++) {
      for (let column = 0; column < columns; column++) {
        const place = row * columns + column;
        const number = state.first + BigInt(place);
        if (tiles.has(place) || number > LAST) continue;
        const element = tile(ofSeed(state.model, number, state.label, state.truncation), { open: (image) => inspect(image, { along: true }) });
        element.style.left = `${column * (width + gap)}px`;
        element.style.top = `${row * step}px`;
        element.place = place;
        tiles.set(place, element);
        // In the order of seeds, for the Tab key and for who listens to the page.
        const next = [...wall.children].find((other) => other.place > place);
        wall.insertBefore(element, next ?? null);
      }
    }
  }

  wall.addEventListener("keydown", (event) => {
    const tileOf = event.target.closest(".tile");
    if (!tileOf || !layout) return;
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -layout.columns, ArrowDown: layout.columns, PageDown: layout.columns * 4, PageUp: -layout.columns * 4 }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    const place = Math.max(0, tileOf.place + move);
    const top = Math.floor(place / layout.columns) * (layout.height + layout.gap);
    if (top < scroll.scrollTop) scroll.scrollTop = top;
    else if (top + layout.height > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + layout.height + layout.gap - scroll.clientHeight;
    draw();
    tiles.get(place)?.querySelector(".open").focus({ preventScroll: true });
  });

  let framed = 0;
  scroll.addEventListener("scroll", () => {
    framed ||= requestAnimationFrame(() => {
      framed = 0;
      draw();
    });
  });
  const resized = new ResizeObserver(debounced(resize, 60));
  resized.observe(scroll);
  const stop = listen((what) => what === "look" && refill());
  draw();
  return () => {
    resized.disconnect();
    stop();
    for (const element of tiles.values()) element.leave();
  };
}

// Label and truncation of new images, in every room that makes some of seeds.
export function newImageControls(apply) {
  const { model } = state;
  const most = model.limits.truncation_max;
  if (state.truncation > most) state.truncation = most;
  const shown = h("output", { for: "truncation" }, state.truncation.toFixed(2));
  const later = debounced(() => apply(), 120);
  const range = h("input", { type: "range", id: "truncation", min: "0", max: String(most), step: "0.05", value: String(state.truncation), oninput: () => {
    state.truncation = Number(range.value);
    shown.value = state.truncation.toFixed(2);
    later();
  } });
  const controls = [h("div", { class: "range" }, h("label", { for: "truncation", class: "quiet" }, "Truncation"), shown, range)];
  if (model.labels.length) {
    const select = h("select", { id: "label", onchange: () => { state.label = select.value === "" ? null : Number(select.value); apply(); changed("label"); } },
      h("option", { value: "" }, "all labels"),
      ...model.labels.map((name, i) => h("option", { value: String(i), selected: state.label === i }, name)));
    controls.unshift(h("div", { class: "field" }, h("label", { for: "label", class: "quiet" }, "Label"), select));
  }
  return controls;
}
