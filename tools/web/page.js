"use strict";
// Draws the page's figures in the reader's theme, and again when that, or the paper, changes.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const darkOf = read("dark-colours");
  const plots = [...document.querySelectorAll(".plot")];
  const figures = new Map(plots.map((plot) => [plot, read(`${plot.id}-figure`)]));
  const root = document.documentElement;
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 600px)");
  const CONFIG = { displayModeBar: false, responsive: true };
  // Written out: other buttons send the data somewhere.
  const BUTTONS = ["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"];
  const ZOOMING = {
    modeBarButtons: [BUTTONS], displaylogo: false, responsive: true, doubleClick: "reset+autosize",
  };
  const COLOUR_KEY = /color/i;
  const PAPER_PX = 690;
  let printing = false;

  const isDark = () =>
    !printing &&
    (root.dataset.theme === "dark" || (root.dataset.theme !== "light" && systemDark.matches));

  // Only under keys of colours: a name that looks like a colour stays as it is.
  const darkened = (value, inColour) => {
    if (typeof value === "string") {
      const dark = inColour && darkOf[value.slice(0, 7)]; // what follows is the opacity
      return dark ? dark + value.slice(7) : value;
    }
    if (Array.isArray(value)) return value.map((item) => darkened(item, inColour));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, darkened(item, COLOUR_KEY.test(key))]),
    );
  };

  const drawOne = (plot) => {
    const figure = structuredClone(figures.get(plot));
    const { data, layout } = isDark() ? darkened(figure, false) : figure;
    if (narrow.matches && !printing) {
      layout.font.size = 11;
      if (layout.meta) layout.annotations = layout.meta.narrow;
      for (const [key, axis] of Object.entries(layout)) {
        if (!/^[xy]axis/.test(key)) continue;
        if (axis.tickfont) axis.tickfont.size = Math.min(axis.tickfont.size || 11, 11);
        if (axis.ticktext) axis.ticktext = axis.ticktext.map(shortened);
        if (key[0] === "x" && !axis.tickvals) axis.nticks = 5;
      }
    }
    layout.autosize = !printing; // or the paper's width would stay
    if (printing) layout.width = PAPER_PX;
    Plotly.react(plot, data, layout, layout.dragmode ? ZOOMING : CONFIG);
  };
  // An entity is not to be cut.
  const shortened = (text) => {
    const characters = text.match(/&[^;]+;|./gu) || [];
    return characters.length > 14 ? `${characters.slice(0, 13).join("")}…` : text;
  };

  // What is in sight comes first and at once, the others while the browser has nothing to do.
  let drawing = 0;
  const later = window.requestIdleCallback || ((task) => setTimeout(task, 0));
  const pause = () => new Promise((done) => { later(done, { timeout: 100 }); });
  const folded = (plot) => !printing && plot.closest("details.folded:not([open])") !== null;
  const drawAll = async () => {
    const mine = ++drawing;
    delete root.dataset.drawn;
    const shown = plots.filter((plot) => !folded(plot));
    const inSight = (plot) => plot.getBoundingClientRect().top < 1.5 * innerHeight;
    const [first, others] = [shown.filter(inSight), shown.filter((plot) => !inSight(plot))];
    first.forEach(drawOne);
    performance.mark("in-sight-drawn");
    for (const plot of others) {
      await pause();
      if (mine !== drawing) return; // the theme changed again
      drawOne(plot);
    }
    root.dataset.drawn = root.dataset.theme || "system";
    performance.mark("drawn");
  };
  const drawForPaper = () => { drawing += 1; plots.forEach(drawOne); };

  // What is folded has no width to be drawn in.
  for (const details of document.querySelectorAll("details.folded")) {
    details.addEventListener("toggle", () => {
      if (details.open) details.querySelectorAll(".plot").forEach(drawOne);
    });
  }

  const THEMES = ["system", "light", "dark"];
  const button = document.getElementById("theme");
  const setTheme = (theme) => {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    drawAll();
  };
  button.addEventListener("click", () => {
    const now = root.dataset.theme || "system";
    setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
  });
  button.hidden = false;

  systemDark.addEventListener("change", drawAll);
  narrow.addEventListener("change", drawAll);
  addEventListener("beforeprint", () => {
    printing = true;
    for (const doubts of document.querySelectorAll(".doubts, .folded")) doubts.open = true;
    drawForPaper();
  });
  addEventListener("afterprint", () => { printing = false; drawAll(); });

  const asked = new URLSearchParams(location.search).get("theme");
  setTheme(THEMES.includes(asked) ? asked : "system");
})();
