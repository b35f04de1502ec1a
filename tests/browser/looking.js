// Return what a reader of this page could not read: [check, what and where] for each.

const GAP = 1.5; // pixels: letters reach a little beyond their boxes
const VERBATIM = "pre, code, script, style, noscript, mjx-container, textarea";
const PICTURES = "img, svg, canvas, video, mjx-math";
const found = [];
const width = document.documentElement.clientWidth;

function name(element) {
  const steps = [];
  for (let at = element; at && at !== document.body && steps.length < 4; at = at.parentElement) {
    const kind = at.getAttribute("class")?.trim().split(/\s+/)[0];
    steps.unshift(at.localName + (at.id ? `#${at.id}` : kind ? `.${kind}` : ""));
    if (at.id) break;
  }
  return steps.join(" > ");
}

function report(check, element, what) {
  const text = what.trim().replace(/\s+/g, " ");
  found.push([check, `${name(element)}: ${text.slice(0, 80)}`]);
}

// What is for screen readers alone is clipped on purpose.
function isUnseen(style, box) {
  return (box.width <= 1 || box.height <= 1 || style.clip.startsWith("rect"))
    && style.position === "absolute";
}

// Say how much of a box is beyond what can be seen, or be scrolled to.
function beyond(box, element) {
  let { left, right } = box;
  for (let at = element; at && at !== document.body; at = at.parentElement) {
    const style = getComputedStyle(at);
    const frame = at.getBoundingClientRect();
    if (isUnseen(style, frame)) return 0;
    if (style.overflowX !== "visible" && style.display !== "inline") {
      const first = frame.left + at.clientLeft;
      const scrolls = style.overflowX !== "hidden" && style.overflowX !== "clip";
      const [start, end] = scrolls
        ? [first - at.scrollLeft, first - at.scrollLeft + at.scrollWidth]
        : [first, first + at.clientWidth];
      const lost = Math.max(start - left, right - end);
      if (at.clientWidth > 0 && lost > GAP) return lost;
      ({ left, right } = frame); // the rest scrolls into this frame
    }
    if (style.position === "fixed" && (frame.right <= 0 || frame.left >= width)) return 0; // a drawer
  }
  return Math.max(-left, right - width);
}

function isVisible(element) {
  return element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
}

for (const details of document.querySelectorAll("details")) details.open = true;

if (document.documentElement.scrollWidth > width)
  report("width", document.body, `the page is ${document.documentElement.scrollWidth} px wide`);

const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const range = document.createRange();
for (let text = texts.nextNode(); text; text = texts.nextNode()) {
  const element = text.parentElement;
  if (!text.data.trim() || !isVisible(element)) continue;
  range.selectNodeContents(text);
  const lost = Math.max(...[...range.getClientRects()].map((box) => beyond(box, element)));
  if (lost > GAP) report("cut", element, `${lost.toFixed()} px of "${text.data}"`);
  if (/\\[([]|\\[a-zA-Z]+\{|\$/.test(text.data) && !element.closest(VERBATIM))
    report("formula", element, text.data);
}

for (const error of document.querySelectorAll("mjx-merror, .MathJax_Error"))
  report("formula", error, error.textContent);

for (const picture of document.querySelectorAll(PICTURES)) {
  if (picture.parentElement.closest("svg") || !isVisible(picture)) continue;
  const lost = beyond(picture.getBoundingClientRect(), picture.parentElement);
  if (lost > GAP) report("cut", picture, `${lost.toFixed()} px of the picture or formula`);
}

for (const image of document.images) {
  if (!image.complete || image.naturalWidth === 0) report("picture", image, `${image.src} is missing`);
  if (!image.alt.trim()) report("picture", image, `${image.src} has no alternative text`);
}

return found;
