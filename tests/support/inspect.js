// What is wrong with how a page looks; runs in the page itself. Text that is too small, too faint or beyond the
// edge is what a reader meets first.
(() => {
  const problems = [];
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) {
    problems.push(`the page is ${document.documentElement.scrollWidth} wide, the window ${width}`);
  }
  const parts = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
  const light = (colour) =>
    parts(colour).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
      .reduce((sum, part, k) => sum + part * [0.2126, 0.7152, 0.0722][k], 0);
  const below = (of) => {
    for (let at = of; at !== null; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  // A text of a drawing may stand on a shape of it.
  const behind = (of) => {
    const ground = below(of);
    if (of.closest("svg") === null) return ground;
    of.scrollIntoView({ block: "center" });
    const { left, top, width, height } = of.getBoundingClientRect();
    const shape = document.elementsFromPoint(left + width / 2, top + height / 2)
      .find((one) => /^(rect|circle|path)$/.test(one.localName));
    const { fill = "none", fillOpacity = 1 } = shape === undefined ? {} : getComputedStyle(shape);
    if (fill === "none") return ground;
    const under = parts(ground);
    return parts(fill).slice(0, 3)
      .map((part, k) => fillOpacity * part + (1 - fillOpacity) * under[k]).join(" ");
  };
  const scrolls = (of) => {
    for (let at = of; at !== null; at = at.parentElement) {
      if (/auto|scroll/.test(getComputedStyle(at).overflowX)) return true;
    }
    return false;
  };
  for (const of of document.querySelectorAll("body *")) {
    const own = [...of.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE)
      .map((node) => node.textContent ?? "").join("").trim();
    const { right, width: wide } = of.getBoundingClientRect();
    if (own === "" || wide === 0) continue;
    const style = getComputedStyle(of), told = `<${of.localName}> '${own.slice(0, 40)}'`;
    if (right > width + 1 && !scrolls(of)) {
      problems.push(`${told} reaches ${right}, beyond ${width}`);
    }
    if (parseFloat(style.fontSize) < 11) problems.push(`${told} is ${style.fontSize}`);
    const colour = of.closest("svg") === null ? style.color : style.fill;
    const [a, b] = [light(colour), light(behind(of))].sort((x, y) => x - y);
    const contrast = (b + 0.05) / (a + 0.05);
    if (contrast < 4.5) problems.push(`${told} has a contrast of ${contrast.toFixed(2)}`);
  }
  return problems;
})();
