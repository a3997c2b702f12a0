// A line chart by uPlot, in the colors of the page.
import { html, useEffect, useRef } from "../vendor/preact.js";
import uPlot from "../vendor/uplot.js";

/** @param {HTMLElement} element @param {string} name A token of style.css, as a color that a canvas understands. */
function token(element, name) {
  const before = element.style.color;
  element.style.color = `var(${name})`;
  const color = getComputedStyle(element).color;
  element.style.color = before;
  return color;
}

/** @param {number | null} value */
const power = (value) => (value === null ? "" : String(Number(value.toPrecision(1))));

/**
 * @param {{label: string, xs: number[], ys: (number | null)[], xLabel: string, yLabel: string, logarithmic?: boolean,
 *   mark?: number | null, height?: number}} props
 */
export function Chart({ label, xs, ys, xLabel, yLabel, logarithmic = false, mark = null, height = 280 }) {
  const frame = useRef(/** @type {HTMLDivElement | null} */ (null));
  useEffect(() => {
    const element = /** @type {HTMLDivElement} */ (frame.current);
    /** @type {uPlot | null} */
    let chart = null;
    const make = () => {
      chart?.destroy();
      const [ink, rule, line, dot] = ["--muted", "--rule", "--accent", "--different"].map((name) =>
        token(element, name),
      );
      const font = "12px system-ui, sans-serif";
      /** @param {uPlot} _ @param {number[]} splits Only powers of ten have lines. */
      const tens = (_, splits) =>
        splits.map((value) => (Number.isInteger(Math.round(1e6 * Math.log10(value)) / 1e6) ? value : null));
      const upright = logarithmic
        ? {
            filter: tens,
            grid: { stroke: rule, width: 1, filter: tens },
            ticks: { stroke: rule, filter: tens },
            values: (/** @type {uPlot} */ _, /** @type {(number | null)[]} */ values) => values.map(power),
          }
        : {};
      const axis = { stroke: ink, grid: { stroke: rule, width: 1 }, ticks: { stroke: rule }, font, labelFont: font };
      /** @param {uPlot} plot */
      const drawMark = (plot) => {
        if (mark === null) return;
        const x = plot.valToPos(mark, "x", true);
        plot.ctx.save();
        plot.ctx.strokeStyle = dot;
        plot.ctx.setLineDash([4, 4]);
        plot.ctx.beginPath();
        plot.ctx.moveTo(x, plot.bbox.top);
        plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
        plot.ctx.stroke();
        plot.ctx.restore();
      };
      chart = new uPlot(
        {
          width: element.clientWidth,
          height,
          cursor: { drag: { x: false, y: false } },
          legend: { live: true, markers: { show: false } },
          scales: { x: { time: false }, y: logarithmic ? { distr: 3 } : {} },
          axes: [
            { ...axis, label: xLabel },
            { ...axis, label: yLabel, size: 64, ...upright },
          ],
          series: [
            { label: xLabel, value: (_, value) => (value === null ? "–" : value.toFixed(3)) },
            {
              label: yLabel,
              stroke: line,
              width: 2,
              value: (_, value) => (value === null ? "–" : String(Number(value.toPrecision(2)))),
            },
          ],
          hooks: { draw: [drawMark] },
        },
        [xs, logarithmic ? ys.map((y) => (y ? y : null)) : ys],
        element,
      );
    };
    make();
    const observer = new ResizeObserver(
      () => chart && element.clientWidth !== chart.width && chart.setSize({ width: element.clientWidth, height }),
    );
    observer.observe(element);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", make);
    addEventListener("themechange", make);
    return () => {
      observer.disconnect();
      scheme.removeEventListener("change", make);
      removeEventListener("themechange", make);
      chart?.destroy();
    };
  }, [xs, ys, mark]);
  return html`<div class="chart" ref=${frame} role="img" aria-label=${label}></div>`;
}
