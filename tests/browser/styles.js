// Mark one text of every combination of colours and sizes; return how many there are.
const seen = new Set();
for (const element of document.body.querySelectorAll("*")) {
  element.removeAttribute("data-of-its-style");
  const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!hasText || !element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  let ground = element;
  while (ground !== document.body && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)")
    ground = ground.parentElement;
  const paint = getComputedStyle(ground).backgroundColor;
  const key = [style.color, style.fontSize, style.fontWeight, style.opacity, paint].join();
  if (!seen.has(key)) element.setAttribute("data-of-its-style", "");
  seen.add(key);
}
return seen.size;
