"use strict";
/* Shows the page's samples, those that its filters let through. What they hold goes into the page as text, never as HTML. */
{
  const { kinds, texts, samples } = JSON.parse(document.getElementById("data").textContent);
  const names = Object.keys(samples);
  const rows = (samples.suite ?? []).map((_, k) => Object.fromEntries(names.map((name) => [name, samples[name][k]])));
  const AT_ONCE = 20;
  const MARK = "#samples?";
  const form = document.getElementById("filters");
  const selects = [...form.querySelectorAll("select")];
  const list = document.getElementById("list");
  const more = document.getElementById("more");
  let found = [];

  const element = (tag, className, ...inside) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...inside);
    return made;
  };
  /* A text that was cut is [beginning, characters left out, end]. */
  const pieces = (place) => [texts[place]].flat();
  const shown = (place) => {
    const [beginning, leftOut, end] = pieces(place);
    if (!leftOut) return [beginning];
    return [beginning, element("span", "left-out", `${leftOut.toLocaleString("en")} characters are left out here`), end];
  };
  const holds = (row, text) =>
    row.prompt_id.includes(text) ||
    [row.prompt, row.reasoning, row.answer].some((place) =>
      pieces(place).some((piece) => String(piece).toLowerCase().includes(text)),
    );

  const standing = (row) => {
    if (row.verdict === "unscored") return "verdict";
    const wrong = { harmful: "comply", benign: "refuse", reasoning: "incorrect" }[kinds[row.suite]];
    return row.verdict === wrong ? "verdict bad" : "verdict good";
  };
  const facts = (row) => [
    row.suite,
    row.attack === "none" ? null : `attack ${row.attack}`,
    row.arm,
    row.head_probability === null ? "no p'" : `p' ${row.head_probability.toFixed(3)}`,
    row.path && `path ${row.path}`,
    `judge ${row.judge}`,
    `sample ${row.sample}`,
    `${row.num_tokens.toLocaleString("en")} tokens${row.truncated ? ", cut off" : ""}`,
    row.category && `category ${row.category}`,
    row.reference && `reference ${row.reference}`,
    `prompt ${row.prompt_id}`,
  ];
  const body = (row) => {
    const told = element("dl", "text");
    for (const [name, place] of [["prompt", row.prompt], ["thought", row.reasoning], ["answer", row.answer]]) {
      const none = texts[place] === "";
      const text = none ? element("dd", "quiet", "none") : element("dd", "", ...shown(place));
      if (!none) text.tabIndex = 0; /* a long one scrolls, by keyboard too */
      told.append(element("dt", "", name), text);
    }
    return told;
  };
  const folded = (row) => {
    const fold = element("details", "", element("summary", "", "Harmful: show prompt, thought and answer"));
    fold.addEventListener("toggle", () => fold.append(body(row)), { once: true });
    return fold;
  };
  const card = (row) => {
    const told = facts(row).filter(Boolean).map((fact) => element("span", "", fact));
    const head = element("p", "facts", element("span", standing(row), row.verdict), ...told);
    return element("li", "sample", head, kinds[row.suite] === "harmful" ? folded(row) : body(row));
  };

  const showMore = () => {
    const begin = list.children.length;
    list.append(...found.slice(begin, begin + AT_ONCE).map(card));
    more.hidden = list.children.length === found.length;
  };
  const show = () => {
    const text = form.elements.text.value.trim().toLowerCase();
    const wanted = selects.filter((select) => select.value).map((select) => [select.name, select.value]);
    found = rows.filter((row) => wanted.every(([name, value]) => row[name] === value) && (!text || holds(row, text)));
    document.getElementById("count").textContent = `${found.length} of ${rows.length} samples`;
    list.replaceChildren();
    showMore();
  };

  /* The filters are in the address, so that a cell of a table leads to its samples, and any choice can be kept. */
  const fromAddress = () => {
    if (!location.hash.startsWith(MARK)) return false;
    const wanted = new URLSearchParams(location.hash.slice(MARK.length));
    for (const field of form.querySelectorAll("select, input")) field.value = wanted.get(field.name) ?? "";
    return true;
  };
  const follow = () => {
    if (!fromAddress()) return;
    show();
    const section = document.getElementById("samples");
    section.scrollIntoView();
    section.focus({ preventScroll: true });
  };
  const filter = () => {
    const wanted = [...new FormData(form)].filter(([, value]) => value);
    history.replaceState(null, "", MARK + new URLSearchParams(wanted));
    show();
  };

  for (const select of selects) {
    const values = [...new Set(rows.map((row) => row[select.name]))].filter((value) => value !== null);
    select.append(new Option("all", ""), ...values.map((value) => new Option(value, value)));
    select.parentElement.hidden = values.length < 2;
  }
  document.getElementById("needs-script").remove();
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  more.addEventListener("click", showMore);
  addEventListener("hashchange", follow);
  addEventListener("click", ({ target }) => {
    if (target.closest(`a[href^="${MARK}"]`)) setTimeout(follow); /* the address may have been this one already */
  });
  show();
  follow();
}
