"use strict";
// Buttons of every page: a command to copy, a figure to save as SVG.
document.documentElement.classList.add("live");
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {  // where a page from a file may not: selected, to copy by hand
      getSelection().selectAllChildren(code);
    }
  });
}
for (const button of document.querySelectorAll("[data-svg]")) {
  button.addEventListener("click", () => {
    const svg = button.closest("figure").querySelector("svg").cloneNode(true);
    svg.style.background = "#ffffff";  // colours that follow the page fall back to those on white
    const text = new XMLSerializer().serializeToString(svg);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], {type: "image/svg+xml"}));
    link.download = `${button.dataset.svg}.svg`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
