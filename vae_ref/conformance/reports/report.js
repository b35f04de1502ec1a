const selected = (element) => {
  const selection = getSelection();
  selection.removeAllRanges();
  const range = document.createRange();
  range.selectNodeContents(element);
  selection.addRange(range);
};

const copied = async (element) => {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    selected(element);
    return document.execCommand("copy");
  }
};

for (const button of document.querySelectorAll("button[aria-controls]")) {
  const code = document.getElementById(button.getAttribute("aria-controls"));
  const status = button.previousElementSibling;
  button.hidden = false;
  button.addEventListener("click", async () => {
    status.textContent = (await copied(code)) ? "copied" : "selected: press Ctrl+C";
    setTimeout(() => { status.textContent = ""; }, 4000);
  });
}

const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = target?.closest("details:not([open])");
  if (folded) {
    folded.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", unfold);
unfold();
