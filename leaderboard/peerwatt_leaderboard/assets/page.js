"use strict";
// The page is complete without this script, which adds sorting, shared highlights and opening the
// record that an address points to. It reads the table and writes no text from it as HTML.
(() => {
  // Sorting: a button in each column head; what is undefined stays last either way.
  for (const table of document.querySelectorAll("table.board")) {
    const body = table.tBodies[0];
    const heads = [...table.querySelectorAll("thead tr:last-child th")];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const first = head.dataset.kind === "text" || head.dataset.first ? "ascending" : "descending";
        const other = first === "ascending" ? "descending" : "ascending";
        const next = now === first ? other : first;
        for (const each of heads) each.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const value = (row) => row.cells[column].dataset.v;
        const compare = (a, b) => {
          const x = value(a), y = value(b);
          if (x === "" || y === "") return (x === "") - (y === "");
          return sign * (head.dataset.kind === "text" ? x.localeCompare(y) : x - y);
        };
        body.append(...[...body.rows].sort(compare));
      });
    });
  }

  // Pointing at an entry in the table or in a chart shows it everywhere in its section.
  for (const section of document.querySelectorAll("main > section")) {
    const parts = [...section.querySelectorAll("[data-entry]")];
    let shown = null;
    const show = (entry) => {
      if (entry === shown) return;
      shown = entry;
      section.classList.toggle("pointing", entry !== null);
      for (const part of parts) part.classList.toggle("on", part.dataset.entry === entry);
    };
    const at = (event) => {
      const part = event.target.closest("tr[data-entry], svg [data-entry], .figures [data-entry]");
      show(part ? part.dataset.entry : null);
    };
    section.addEventListener("pointerover", at);
    section.addEventListener("focusin", at);
    section.addEventListener("pointerleave", () => show(null));
    section.addEventListener("focusout", () => show(null));
  }

  // An address of a record opens it.
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) {
      target.open = true;
      target.scrollIntoView({ block: "start" });
    }
  };
  addEventListener("hashchange", open);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"], svg a');
    if (link && link.getAttribute("href") === location.hash) open();
  });
  if (location.hash) open();
})();
