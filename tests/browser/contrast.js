/* WCAG 2 contrast of every text that shows, and of every control's border, with the ground it stands on. */
() => {
  const channels = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
    throw new Error("no ground");
  };
  const shows = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest(".unseen, .skip, template");
  const measured = [];
  const measure = (kind, element, colour, under) =>
    measured.push({ kind, contrast: contrast(colour, under), what: `${element.className || element.tagName}: ${element.textContent.trim().slice(0, 30)}` });
  for (const element of document.body.querySelectorAll("*")) {
    if (!shows(element)) continue;
    const style = getComputedStyle(element);
    if ([...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim())) {
      measure("text", element, style.color, ground(element));
    }
    if (element.matches("input, textarea")) {
      measure("text", element, getComputedStyle(element, "::placeholder").color, ground(element));
      measure("control", element, style.borderTopColor, ground(element.parentElement));
    }
    if (element.matches(".value")) measure("control", element, style.backgroundColor, ground(element.parentElement));
  }
  return measured;
};
