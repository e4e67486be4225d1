// The page reads without this: it adds sorting, values under the pointer, hidden methods and downloads, and asks no
// network. What it needs to know stands in the markup: data-method, titles of marks, the light palette, whole tables.
(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, attributes = {}, text = "") => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };

  function save(name, type, text) {
    const link = make("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // ------------------------------------------------------------ sorting

  const numeral = /^[+-]?\d[\d,]*(\.\d+)?/;
  function valueOf(text) {
    const plain = text.trim().replace(/\u2212/g, "-");
    const found = plain.match(numeral);
    return found ? Number(found[0].replace(/,/g, "")) : plain === "\u2013" || plain === "" ? null : plain.toLowerCase();
  }

  function cellAt(row, column) {
    let at = 0;
    for (const cell of row.cells) {
      at += cell.colSpan;
      if (column < at) return cell;
    }
    return null;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }

  function sortBy(table, header, column) {
    const rising = header.getAttribute("aria-sort") === "descending";
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: valueOf(cellAt(row, column)?.textContent ?? "") }));
    rows.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);  // what is missing, last
      return rising ? compare(a.value, b.value) : compare(b.value, a.value);
    });
    for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", rising ? "ascending" : "descending");
    table.tBodies[0].append(...rows.map((one) => one.row));
  }

  for (const table of all("table.plain, table.grid")) {
    const heads = [...table.tHead.rows];
    const places = heads.length === 1 ? [...heads[0].cells].map((cell, i) => [cell, i])
      : [[heads[0].cells[0], 0], ...[...heads[1].cells].map((cell, i) => [cell, i + 1])];
    for (const [header, column] of places) {
      if (!header.textContent.trim()) continue;
      const button = make("button", { type: "button", class: "sort", title: "Sort" });
      button.append(...header.childNodes);
      button.addEventListener("click", () => sortBy(table, header, column));
      header.append(button);
    }
  }

  // ------------------------------------------------------------ values under the pointer

  const bubble = make("div", { class: "bubble", role: "status", hidden: "" });
  document.body.append(bubble);

  function nearest(panel, event) {
    let best = null;
    let least = 26;
    for (const mark of all(".mark:not(.gone)", panel)) {
      const box = mark.getBoundingClientRect();
      const distance = Math.hypot(event.clientX - box.x - box.width / 2, event.clientY - box.y - box.height / 2);
      if (distance < least) [best, least] = [mark, distance];
    }
    return best;
  }

  function point(panel, event) {
    const mark = nearest(panel, event);
    for (const other of all(".mark.at", panel)) if (other !== mark) other.classList.remove("at");
    bubble.hidden = mark === null;
    if (mark === null) return;
    mark.classList.add("at");
    bubble.textContent = mark.dataset.says;
    const box = mark.getBoundingClientRect();
    const left = Math.min(Math.max(box.x + box.width / 2 - bubble.offsetWidth / 2, 4), innerWidth - bubble.offsetWidth - 4);
    const above = box.y - bubble.offsetHeight - 6;
    bubble.style.transform = `translate(${left}px, ${above > 4 ? above : box.y + box.height + 6}px)`;
  }

  for (const panel of all("svg.panel")) {
    for (const mark of all(".mark", panel)) {
      mark.dataset.says = mark.querySelector("title")?.textContent ?? "";
      mark.replaceChildren();  // the browser's own, slow tooltip would stand beside this one
    }
    panel.addEventListener("pointermove", (event) => point(panel, event));
    panel.addEventListener("pointerdown", (event) => point(panel, event));
    panel.addEventListener("pointerleave", () => {
      bubble.hidden = true;
      for (const mark of all(".mark.at", panel)) mark.classList.remove("at");
    });
  }

  // ------------------------------------------------------------ hidden methods

  const chooser = document.querySelector(".chooser");
  const gone = new Set();

  function toggle(method) {
    if (!gone.delete(method)) gone.add(method);
    for (const element of all("[data-method]")) element.classList.toggle("gone", gone.has(element.dataset.method));
    for (const button of all(".chooser button[data-choose]")) {
      button.setAttribute("aria-pressed", String(!gone.has(button.dataset.choose)));
    }
    const again = chooser?.querySelector(".again");
    if (again) again.hidden = gone.size === 0;
  }

  if (chooser) {
    for (const item of all("[data-choose]", chooser)) {
      const method = item.dataset.choose;
      const button = make("button", { type: "button", "data-choose": method, "aria-pressed": "true" });
      button.append(...item.childNodes);
      button.addEventListener("click", () => toggle(method));
      item.removeAttribute("data-choose");
      item.append(button);
    }
    const again = make("button", { type: "button", class: "again", hidden: "" }, "Show all");
    again.addEventListener("click", () => [...gone].forEach(toggle));
    chooser.append(again);
    chooser.hidden = false;
  }

  // ------------------------------------------------------------ downloads

  const light = JSON.parse(document.getElementById("light-palette").textContent);
  const onPaper = (text) => text.replace(/var\(--([\w-]+)\)/g, (whole, name) => light[name] ?? whole);

  function wholeFigure(figure) {
    const panels = all("svg.panel", figure);
    const boxes = panels.map((panel) => panel.viewBox.baseVal);
    const width = Math.max(...boxes.map((box) => box.width));
    let top = 0;
    const parts = panels.map((panel, i) => {
      const copy = panel.cloneNode(true);
      for (const lost of all(".gone, .mark", copy)) lost.remove();
      copy.removeAttribute("class");
      for (const [name, value] of Object.entries({ x: 0, y: top, width: boxes[i].width, height: boxes[i].height })) {
        copy.setAttribute(name, value);
      }
      top += boxes[i].height + 12;
      return new XMLSerializer().serializeToString(copy);
    });
    const size = `width="${width}pt" height="${top}pt" viewBox="0 0 ${width} ${top}"`;
    const root = `<svg xmlns="${panels[0].namespaceURI}" ${size} font-family="Arial, 'Liberation Sans', sans-serif">`;
    return onPaper(`${root}<rect width="100%" height="100%" fill="#ffffff"/>${parts.join("")}</svg>`);
  }

  for (const figure of all("figure[data-name]")) {
    const button = make("button", { type: "button", class: "save" }, "Download SVG");
    button.addEventListener("click", () => save(`${figure.dataset.name}.svg`, "image/svg+xml", wholeFigure(figure)));
    figure.append(button);
  }

  for (const data of all("script[data-csv]")) {
    const button = make("button", { type: "button", class: "save" }, "Download CSV");
    button.addEventListener("click", () => save(`${data.dataset.csv}.csv`, "text/csv", JSON.parse(data.textContent)));
    data.after(button);
  }
})();
